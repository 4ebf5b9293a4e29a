"""Comparing large disks: what is read, what is found, what is missed, and what is said of it."""

import errno
from pathlib import Path

import pytest

from tests.kit.data import pattern
from tests.kit.traces import changed
from tests.tracer.mirror.test_sweep import Answer, Bad
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.disk.raw import make_raw
from tracer.mirror import sweep as module
from tracer.mirror.comparison import Comparison
from tracer.mirror.found import Failed, Sweep
from tracer.mirror.reads import CHUNK
from tracer.mirror.scope import DATA_SAMPLES, MUCH, SAMPLES, THOROUGH, Compare, Scope, sample
from tracer.mirror.sweep import sweep
from tracer.mirror.touched import GRAIN
from tracer.nbd import protocol as p
from tracer.op import SECTOR, Kind
from tracer.ranges import RangeSet
from tracer.verdict import Walk

SIZE = 1 << 40
FAR = SIZE // 2 + 5 * GRAIN
HOLE = int(p.State.HOLE | p.State.ZERO)


class Large:
    """Two equal images of 1 TiB with a write at the front, and what is read of the test side."""

    def __init__(self, folder: Path, size: int = SIZE) -> None:
        self.raw, self.test = folder / "good.raw", folder / "test.raw"
        self.comparison = Comparison()
        for path in (self.raw, self.test):
            make_raw(path, size)
            self.put(path, 4096, pattern(4096, 0))
        self.comparison.done(changed(Kind.WRITE, 4096, 8192, failed=False))
        self.reads = RangeSet()
        self.walked = 0
        self.says_all_is_data = False

    def put(self, path: Path, at: int, data: bytes) -> None:
        with path.open("r+b") as file:
            file.seek(at)
            file.write(data)

    def sweep(
        self, scope: Scope | None = None, *, has_block_status: bool = True, adopt: bool = False
    ) -> Sweep:
        self.reads, self.walked = RangeSet(), 0
        with Loop() as loop, FileDevice(self.raw) as reference, Bad(self.test) as test:
            test.has_block_status = has_block_status
            test.defect = self.defect
            return sweep(
                loop, reference, test, self.comparison, scope=scope or Scope(), adopt=adopt
            )

    def defect(self, kind: int, offset: int, length: int) -> Answer | None:
        if kind == Kind.READ:
            self.reads.add(offset, offset + length)
        else:
            self.walked += 1
            if self.says_all_is_data:
                return 0, None, [(length, 0)]
        return None


@pytest.fixture
def large(tmp_path: Path) -> Large:
    return Large(tmp_path)


def places(found: Sweep) -> list[tuple[int, int]]:
    return list(found.damage)


def test_what_was_touched_is_read_and_a_sample(large: Large) -> None:
    found = large.sweep()
    assert found.clean
    assert (0, GRAIN) in list(large.reads)
    assert large.reads.total() <= (1 + SAMPLES) * GRAIN
    compared = found.compared
    assert compared is not None
    assert (compared.touched, compared.samples, compared.block_status) == (GRAIN, 64, Walk.WHOLE)
    assert compared.describe() == "64.0 KiB touched, 64 samples of the other 1.0 TiB"


def test_damage_beside_a_write_is_found(large: Large) -> None:
    """Anywhere in its grain, though block status would call it a hole."""
    large.put(large.test, GRAIN - SECTOR, b"x" * SECTOR)
    large.put(large.test, 4096, bytes(4096))
    assert places(large.sweep()) == [(4096, 8192), (GRAIN - SECTOR, GRAIN)]


def test_what_the_reference_holds_is_read_though_no_op_came(large: Large) -> None:
    large.put(large.raw, FAR, b"x" * SECTOR)
    assert places(large.sweep()) == [(FAR, FAR + SECTOR)]


def test_what_was_zeroed_is_read(large: Large) -> None:
    """The reference holds nothing there any more: a driver may have lost the write zeroes."""
    large.put(large.test, FAR, b"x" * SECTOR)
    large.comparison.done(changed(Kind.ZERO, FAR, FAR + SECTOR, failed=False))
    assert places(large.sweep(has_block_status=False)) == [(FAR, FAR + SECTOR)]


def test_a_stray_write_is_found_by_block_status(large: Large) -> None:
    large.put(large.test, FAR + 4096, b"x" * 4096)
    found = large.sweep()
    assert places(found) == [(FAR + 4096, FAR + 8192)]
    assert found.compared is not None
    assert found.compared.more == GRAIN
    assert "64.0 KiB more that may hold data" in found.compared.describe()


def test_without_block_status_it_takes_a_comparison_of_the_whole(tmp_path: Path) -> None:
    large = Large(tmp_path, size=MUCH + 4 * CHUNK)
    at = MUCH + CHUNK
    large.put(large.test, at, b"x" * SECTOR)
    missed = large.sweep(has_block_status=False)
    assert missed.clean
    assert missed.compared is not None
    assert missed.compared.describe().endswith("; the driver has no block status")
    found = large.sweep(Scope(Compare.WHOLE), has_block_status=False)
    assert places(found) == [(at, at + SECTOR)]
    assert large.reads.total() == MUCH + 4 * CHUNK
    assert found.compared is not None
    assert found.compared.describe() == "all 264.0 MiB"


def test_a_disk_of_which_little_is_untouched_is_read_whole(tmp_path: Path) -> None:
    large = Large(tmp_path, size=MUCH)
    large.put(large.test, MUCH - SECTOR, b"x" * SECTOR)
    assert places(large.sweep(has_block_status=False)) == [(MUCH - SECTOR, MUCH)]


def test_a_driver_that_calls_everything_data_is_sampled(
    large: Large,
) -> None:
    large.says_all_is_data = True
    found = large.sweep()
    assert found.compared is not None
    # the samples include those that are taken anyway
    assert (found.compared.samples, found.compared.more) == (DATA_SAMPLES, 0)
    assert found.compared.left == SIZE - GRAIN
    assert found.compared.describe().endswith("; the driver calls 1.0 TiB of that data")


def test_a_slow_walk_is_cut_short(large: Large, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WALK_TIME", 0)
    large.put(large.test, FAR, b"x" * SECTOR)
    found = large.sweep()
    assert large.walked <= 1
    assert found.clean
    assert found.compared is not None
    assert found.compared.block_status is Walk.PART
    assert found.compared.describe().endswith("; reading all its block status took too long")


def test_block_status_is_checked_though_a_part_is_damaged(large: Large) -> None:
    large.put(large.test, 4096, b"!")
    large.put(large.raw, FAR, b"x" * SECTOR)
    large.put(large.test, FAR, b"x" * SECTOR)
    honest = large.defect
    large.defect = lambda kind, offset, length: (  # type: ignore[method-assign]
        (0, None, [(length, HOLE)]) if kind == Kind.BLOCK_STATUS else honest(kind, offset, length)
    )
    found = large.sweep()
    assert places(found) == [(4096, 4096 + SECTOR)]
    assert list(found.false_holes) == [(4096 + SECTOR, 8192), (FAR, FAR + SECTOR)]


def test_reads_go_on_where_block_status_fails(large: Large) -> None:
    honest = large.defect
    large.defect = lambda kind, offset, length: (  # type: ignore[method-assign]
        (errno.EIO, None, []) if kind == Kind.BLOCK_STATUS else honest(kind, offset, length)
    )
    found = large.sweep()
    assert found.failed == Failed("block status at sector 0", errno.EIO)
    assert not found.damage
    assert large.reads.total() == (1 + SAMPLES) * GRAIN


def test_long_zeroes_are_read_if_they_are_few(large: Large) -> None:
    large.comparison.done(changed(Kind.ZERO, FAR, FAR + (1 << 20), failed=False))
    large.put(large.test, FAR + (1 << 19), b"x" * SECTOR)
    found = large.sweep(has_block_status=False)
    assert places(found) == [(FAR + (1 << 19), FAR + (1 << 19) + SECTOR)]


def test_long_zeroes_are_left_to_block_status_if_they_are_many(large: Large) -> None:
    start, end = FAR, FAR + (4 << 30) - GRAIN
    large.comparison.done(changed(Kind.ZERO, start, end, failed=False))
    large.put(large.test, end - SECTOR, b"x" * SECTOR)  # its end is looked at in any case
    large.put(large.test, start + (1 << 30), b"x" * SECTOR)
    found = large.sweep()
    assert places(found) == [
        (start + (1 << 30), start + (1 << 30) + SECTOR),
        (end - SECTOR, end),
    ]
    assert large.reads.total() <= (4 + SAMPLES) * GRAIN


def test_only_some_ranges_and_their_block_status(large: Large) -> None:
    large.put(large.test, 4096, b"!")
    large.put(large.test, FAR, b"x" * SECTOR)
    asked: list[tuple[int, int, int]] = []
    honest = large.defect

    def note(kind: int, offset: int, length: int) -> Answer | None:
        asked.append((kind, offset, length))
        return honest(kind, offset, length)

    large.defect = note  # type: ignore[method-assign]
    found = large.sweep(Scope(only=RangeSet([(FAR, FAR + 2 * SECTOR)])))
    assert places(found) == [(FAR, FAR + SECTOR)]
    assert asked == [
        (Kind.READ, FAR, 2 * SECTOR), (Kind.BLOCK_STATUS, FAR, 2 * SECTOR),
    ]  # fmt: skip


def test_undefined_bytes_are_adopted_where_ops_came_and_not_in_samples(large: Large) -> None:
    large.comparison.unknown.add(8192, SIZE)
    large.defect = lambda kind, offset, length: (  # type: ignore[method-assign]
        (0, b"?" * length, []) if kind == Kind.READ and offset >= GRAIN else None
    )
    large.put(large.test, 8192, b"!" * SECTOR)
    assert large.sweep(has_block_status=False, adopt=True).clean
    with large.raw.open("rb") as file:
        file.seek(8192)
        assert file.read(SECTOR) == b"!" * SECTOR
    assert large.raw.stat().st_blocks * 512 <= GRAIN


# ---------------------------------------------------------------- the sample


def test_the_same_seed_reads_the_same_places(large: Large) -> None:
    seen = []
    for seed in (1, 1, 2):
        large.sweep(Scope(seed=seed))
        seen.append(list(large.reads))
    assert seen[0] == seen[1] != seen[2]


def test_thorough_reads_more_and_the_same_places_too(large: Large) -> None:
    large.sweep()
    usual = large.reads
    large.sweep(Scope(thorough=True))
    assert not usual.without(large.reads)
    assert large.reads.total() == (1 + SAMPLES * THOROUGH) * GRAIN


def test_a_sample_is_of_the_set_and_as_large_as_asked_for() -> None:
    among = RangeSet([(0, 10 * GRAIN), (100 * GRAIN, 200 * GRAIN)])
    found = sample(among, 20, 0)
    assert found.total() == 20 * GRAIN
    assert not found.without(among)
    assert sample(among, 110, 0) == among
    assert not sample(RangeSet(), 5, 0)
