"""Zeroed ranges read as zeroes at once, and their blocks are freed when that is cheap."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.data import MIB, pattern
from tracer.disk import zeroing as module
from tracer.disk.file import FileDevice
from tracer.disk.zeroing import GRANULE, Zeroing
from tracer.op import SECTOR, Kind

KIB = 1 << 10
SIZE = 4 * MIB
assert SIZE % GRANULE == 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(pattern(SIZE))
    return path


@pytest.fixture
def fd(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_a_small_range_is_zero_at_once_and_keeps_its_blocks(path: Path, fd: int) -> None:
    Zeroing(fd).zero(4 * KIB, 4 * KIB)
    data = pattern(SIZE)
    assert path.read_bytes() == data[: 4 * KIB] + bytes(4 * KIB) + data[8 * KIB :]
    assert allocated(path) >= SIZE


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_granule_is_freed_when_all_of_it_is_zeroed(path: Path, fd: int, shuffle: bool) -> None:
    zeroing = Zeroing(fd)
    places = list(range(0, SIZE, 4 * KIB))
    if shuffle:
        random.Random(1).shuffle(places)
    for at in places:
        zeroing.zero(at, 4 * KIB)
    assert path.read_bytes() == bytes(SIZE)
    assert allocated(path) == 0
    assert not zeroing.pending


def test_a_large_range_frees_its_granules_and_zeroes_its_ends(path: Path, fd: int) -> None:
    zeroing = Zeroing(fd)
    zeroing.zero(GRANULE - 1000, 2 * GRANULE + 3000)
    expected = bytearray(pattern(SIZE))
    expected[GRANULE - 1000 : 3 * GRANULE + 2000] = bytes(2 * GRANULE + 3000)
    assert path.read_bytes() == expected
    assert allocated(path) <= SIZE - 2 * GRANULE
    assert sorted(zeroing.pending) == [0, 3]


def test_a_hole_stays_a_hole(tmp_path: Path) -> None:
    path = tmp_path / "holes.raw"
    with path.open("wb") as file:
        file.truncate(SIZE)
        zeroing = Zeroing(file.fileno())
        zeroing.zero(4 * KIB, 64 * KIB)
        assert not zeroing.pending
    assert allocated(path) == 0


def test_data_written_over_zeroes_is_never_freed(path: Path, fd: int) -> None:
    zeroing = Zeroing(fd)
    half = GRANULE // 2
    zeroing.zero(0, half)
    zeroing.written(8 * KIB, SECTOR)
    os.pwrite(fd, b"x" * SECTOR, 8 * KIB)
    zeroing.zero(half, half)  # the rest of the granule, except what was written
    zeroing.settle(0, SIZE, 60)
    assert path.read_bytes()[8 * KIB :][:SECTOR] == b"x" * SECTOR
    assert path.read_bytes()[:GRANULE].count(0) == GRANULE - SECTOR


def test_settling_frees_what_is_left(path: Path, fd: int) -> None:
    zeroing = Zeroing(fd)
    for at in range(0, SIZE, 8 * KIB):
        zeroing.zero(at, 4 * KIB)
    before = path.read_bytes()
    zeroing.settle(0, SIZE // 2, 60)
    assert allocated(path) < SIZE
    zeroing.settle(SIZE // 2, SIZE, 60)
    assert allocated(path) <= SIZE // 2 + 64 * KIB  # and the file system's own blocks
    assert path.read_bytes() == before
    assert not zeroing.pending


def test_settling_ends_when_its_time_is_up(path: Path, fd: int) -> None:
    zeroing = Zeroing(fd)
    zeroing.zero(0, 4 * KIB)
    zeroing.settle(0, SIZE, -1)
    assert zeroing.pending


def test_what_is_remembered_is_bounded(
    path: Path, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 3)
    zeroing = Zeroing(fd)
    for granule in range(8):
        zeroing.zero(granule * GRANULE, SECTOR)
        assert 0 < len(zeroing.pending) <= 3


def test_random_zeroes_and_writes_leave_what_a_plain_buffer_holds(path: Path) -> None:
    chance, expected = random.Random(7), bytearray(pattern(SIZE))
    with FileDevice(path) as device:
        for _ in range(3000):
            length = chance.choice((1, 511, SECTOR, 4 * KIB, 100_000, GRANULE, 3 * GRANULE))
            offset = chance.randrange(SIZE - length)
            if chance.random() < 0.7:
                offset -= offset % SECTOR
            if chance.random() < 0.4:
                data: bytes | None = chance.randbytes(length)
                device.execute(Kind.WRITE, 0, offset, length, data)
            else:
                data = bytes(length)
                kind = chance.choice((Kind.TRIM, Kind.ZERO))
                device.execute(kind, 0, offset, length, None)
            assert data is not None
            expected[offset : offset + length] = data
            assert device.read(offset, length) == data
            if chance.random() < 0.05:
                device.execute(Kind.BLOCK_STATUS, 0, offset, length, None)
        assert device.read(0, SIZE) == expected
    assert path.read_bytes() == expected
