"""Comparing both images: exactly the damaged sectors, and nothing that a rule excuses."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kit.data import pattern
from tests.kit.traces import changed
from tracer.disk.device import CONNECTION_LOST, Data, Done
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.mirror import reads as module
from tracer.mirror.comparison import Comparison
from tracer.mirror.found import Failed, Sweep
from tracer.mirror.scope import Scope
from tracer.mirror.sweep import sweep
from tracer.nbd import protocol as p
from tracer.op import SECTOR, Buffer, Extents, Fault, Kind
from tracer.ranges import RangeSet

SECTORS = 64
SIZE = SECTORS * SECTOR
HOLE = int(p.State.HOLE | p.State.ZERO)

Answer = tuple[int, Data | None, Extents]


class Bad(FileDevice):
    """A file that answers some requests in its own way: ``defect`` gives an answer, None for
    honesty, or "never"."""

    defect: Callable[[int, int, int], Answer | str | None] = staticmethod(lambda *_: None)

    def submit(
        self, kind: int, flags: int, offset: int, length: int, data: Buffer | None, done: Done
    ) -> None:
        answer = self.defect(kind, offset, length)
        if answer == "never":
            return
        if answer is None:
            answer = self.execute(kind, flags, offset, length, data)
        done(*answer)  # type: ignore[misc]


class Bench:
    """Two equal images of which every other 4 KiB is data, and the means to compare them."""

    def __init__(self, folder: Path, size: int = SIZE) -> None:
        self.size = size
        self.raw, self.test = folder / "good.raw", folder / "test.raw"
        for path in (self.raw, self.test):
            with path.open("wb") as file:
                for at in range(0, size, 8192):
                    file.seek(at)
                    file.write(pattern(4096, at))
                file.truncate(size)
        self.comparison = Comparison()
        self.defect: Callable[[int, int, int], Answer | str | None] = lambda *_: None

    def damage(self, at: int, data: bytes) -> None:
        with self.test.open("r+b") as file:
            file.seek(at)
            file.write(data)

    def sweep(self, **options: object) -> Sweep:
        with Loop() as loop, FileDevice(self.raw) as reference, Bad(self.test) as test:
            test.defect = self.defect
            return sweep(loop, reference, test, self.comparison, **options)  # type: ignore[arg-type]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def sectors(found: Sweep) -> list[tuple[int, int]]:
    return [(start // SECTOR, end // SECTOR) for start, end in found.damage]


def holes(found: Sweep) -> list[tuple[int, int]]:
    return [(start // SECTOR, end // SECTOR) for start, end in found.false_holes]


def test_equal_images_are_clean(bench: Bench) -> None:
    result = bench.sweep()
    assert result.clean
    assert not result.damage
    assert result.first is None


def test_one_wrong_byte(bench: Bench) -> None:
    bench.damage(17 * SECTOR + 100, b"\0")
    result = bench.sweep()
    assert sectors(result) == [(17, 18)]
    assert result.first is not None
    assert result.first.op is None
    assert result.first.fault == Fault.FINAL
    assert (result.first.offset, result.first.length) == (17 * SECTOR, SECTOR)
    assert result.first.actual[100] == 0
    assert result.first.expected == bench.raw.read_bytes()[17 * SECTOR : 18 * SECTOR]


def test_data_where_the_reference_has_a_hole(bench: Bench) -> None:
    bench.damage(4096, b"x")
    assert sectors(bench.sweep()) == [(8, 9)]


def test_the_first_and_the_last_byte(bench: Bench) -> None:
    bench.damage(0, b"\0")
    bench.damage(SIZE - 1, b"x")
    result = bench.sweep()
    assert sectors(result) == [(0, 1), (SECTORS - 1, SECTORS)]
    assert result.first is not None
    assert result.first.offset == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    st.sets(st.integers(0, SECTORS - 1), max_size=10),
    st.sampled_from([SECTOR, 8192, 3 * SECTOR, 1 << 20]),
)
def test_exactly_the_damaged_sectors(tmp_path: Path, wrong: set[int], chunk: int) -> None:
    bench = Bench(tmp_path)
    for sector in wrong:
        bench.damage(sector * SECTOR + sector, b"\xff")
    before = module.CHUNK
    module.CHUNK = chunk
    try:
        result = bench.sweep()
    finally:
        module.CHUNK = before
    found = [sector for first, last in sectors(result) for sector in range(first, last)]
    assert found == sorted(wrong)
    assert result.clean == (not wrong)


def test_an_image_larger_than_all_reads_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 65536)
    bench = Bench(tmp_path, size=(module.DEPTH + 3) * module.CHUNK + 512)
    bench.damage(bench.size - 1, b"x")
    assert sectors(bench.sweep()) == [(bench.size // SECTOR - 1, bench.size // SECTOR)]


def test_only_a_part(bench: Bench) -> None:
    bench.damage(3 * SECTOR, b"\0")
    bench.damage(18 * SECTOR, b"\0")
    only = RangeSet([(16 * SECTOR, 20 * SECTOR)])
    assert sectors(bench.sweep(scope=Scope(only=only))) == [(18, 19)]


# ---------------------------------------------------------------- what is excused


def test_trimmed_sectors_may_differ(bench: Bench) -> None:
    bench.comparison.done(changed(Kind.TRIM, 2 * SECTOR, 4 * SECTOR, failed=False))
    bench.damage(2 * SECTOR, b"?" * 1024)
    assert bench.sweep().clean
    bench.damage(4 * SECTOR, b"?")
    assert sectors(bench.sweep()) == [(4, 5)]


def test_trimmed_sectors_by_the_strict_rule(bench: Bench) -> None:
    bench.comparison = Comparison("old-or-zero")
    bench.comparison.done(changed(Kind.TRIM, 2 * SECTOR, 4 * SECTOR, failed=False))
    bench.damage(2 * SECTOR, bytes(SECTOR))
    assert bench.sweep().clean
    bench.damage(2 * SECTOR, b"?")
    assert sectors(bench.sweep()) == [(2, 3)]


def test_what_a_failed_write_left_may_differ(bench: Bench) -> None:
    bench.comparison.done(changed(Kind.WRITE, 2 * SECTOR, 3 * SECTOR, failed=True))
    bench.damage(2 * SECTOR, b"?" * SECTOR)
    assert bench.sweep().clean


def test_the_reference_can_adopt_what_is_undefined(bench: Bench) -> None:
    bench.comparison.done(changed(Kind.TRIM, 2 * SECTOR, 3 * SECTOR, failed=False))
    bench.comparison.done(changed(Kind.TRIM, 8 * SECTOR, 9 * SECTOR, failed=False))
    bench.comparison.done(changed(Kind.WRITE, 5 * SECTOR, 6 * SECTOR, failed=True))
    for sector in (2, 5, 8):
        bench.damage(sector * SECTOR, b"?" * SECTOR)
    bench.damage(7 * SECTOR, b"!" * SECTOR)
    assert sectors(bench.sweep(adopt=True)) == [(7, 8)]
    bench.comparison = Comparison()
    assert sectors(bench.sweep()) == [(7, 8)]


def test_nothing_is_adopted_unless_asked_for(bench: Bench) -> None:
    bench.comparison.done(changed(Kind.TRIM, 2 * SECTOR, 3 * SECTOR, failed=False))
    bench.damage(2 * SECTOR, b"?" * SECTOR)
    before = bench.raw.read_bytes()
    assert bench.sweep().clean
    assert bench.raw.read_bytes() == before


# ---------------------------------------------------------------- block status


def says(extents: Extents) -> Callable[[int, int, int], Answer | None]:
    """Answer block status so, and all else honestly."""
    return lambda kind, offset, length: (0, None, extents) if kind == Kind.BLOCK_STATUS else None


def test_a_false_hole_is_found_though_the_bytes_read_right(bench: Bench) -> None:
    bench.defect = says([(SIZE, HOLE)])
    result = bench.sweep()
    assert holes(result) == [(at, at + 8) for at in range(0, SECTORS, 16)]
    assert not result.damage
    assert result.first is not None
    assert result.first.fault == Fault.BLOCK_STATUS
    assert result.first.offset == 0


def test_false_holes_are_found_though_other_bytes_are_wrong(bench: Bench) -> None:
    bench.damage(3 * SECTOR, b"\0")
    bench.defect = says([(8192, HOLE), (SIZE - 8192, 0)])
    result = bench.sweep()
    assert sectors(result) == [(3, 4)]
    assert holes(result) == [(0, 3), (4, 8)]
    assert result.first is not None
    assert result.first.fault == Fault.FINAL


def test_a_false_hole_over_trimmed_sectors_is_none(bench: Bench) -> None:
    bench.comparison.done(changed(Kind.TRIM, 0, 4096, failed=False))
    bench.defect = says([(4096, HOLE), (SIZE, 0)])
    assert bench.sweep().clean


def test_zeroes_may_be_called_data(bench: Bench) -> None:
    bench.defect = says([(SIZE, 0)])
    assert bench.sweep().clean


def test_block_status_in_small_answers(bench: Bench) -> None:
    asked: list[int] = []

    def one_sector(kind: int, offset: int, length: int) -> Answer | None:
        if kind != Kind.BLOCK_STATUS:
            return None
        asked.append(offset)
        return 0, None, [(SECTOR, HOLE if offset == 16 * SECTOR else 0)]

    bench.defect = one_sector
    assert holes(bench.sweep()) == [(16, 17)]
    assert asked == list(range(0, SIZE, SECTOR))


@pytest.mark.parametrize("error", [errno.EIO, CONNECTION_LOST])
def test_block_status_that_fails_is_no_damage(bench: Bench, error: int) -> None:
    bench.defect = lambda kind, *_: (error, None, []) if kind == Kind.BLOCK_STATUS else None
    result = bench.sweep()
    assert not result.clean
    assert not result.damage
    assert result.failed == Failed("block status at sector 0", error)


# ---------------------------------------------------------------- reads that fail


def fails(first: int, last: int, error: int) -> Callable[[int, int, int], Answer | None]:
    """Reads that touch the bytes from first to last fail."""

    def defect(kind: int, offset: int, length: int) -> Answer | None:
        touches = kind == Kind.READ and offset < last and first < offset + length
        return (error, None, []) if touches else None

    return defect


def test_a_read_error_is_damage_of_the_bad_block_alone(bench: Bench) -> None:
    bench.damage(16 * SECTOR, b"\0")
    bench.defect = fails(5000, 5001, errno.EIO)
    result = bench.sweep()
    assert sectors(result) == [(8, 17)]
    assert result.first is not None
    assert result.first.fault == Fault.STATUS
    assert result.first.actual_status == errno.EIO


def test_a_disk_that_fails_everywhere_is_not_narrowed_down_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_NARROWING", 3)
    bench.raw.write_bytes(pattern(SIZE, 0))  # without holes: one read
    reads: list[int] = []

    def defect(kind: int, offset: int, length: int) -> Answer | None:
        if kind != Kind.READ:
            return None
        reads.append(offset)
        return errno.EIO, None, []

    bench.defect = defect
    assert sectors(bench.sweep()) == [(0, SECTORS)]
    assert len(reads) == 1 + 2 * module.MAX_NARROWING


def test_damage_before_and_after_a_read_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 4096)
    bench.defect = fails(8192, 8193, errno.EIO)
    bench.damage(0, b"\0")
    bench.damage(SIZE - 1, b"x")
    result = bench.sweep()
    assert sectors(result) == [(0, 1), (16, 24), (SECTORS - 1, SECTORS)]
    assert result.first is not None
    assert result.first.fault == Fault.FINAL


def test_a_driver_that_went_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found until then is kept; what was not read is no damage, and not asked for."""
    monkeypatch.setattr(module, "CHUNK", 4096)
    bench.damage(0, b"\0")
    reads: list[int] = []

    def defect(kind: int, offset: int, length: int) -> Answer | None:
        reads.append(offset)
        return (CONNECTION_LOST, None, []) if offset >= 8192 else None

    bench.defect = defect
    result = bench.sweep()
    assert sectors(result) == [(0, 1)]
    assert result.failed == Failed("a read of the image at sector 16", CONNECTION_LOST)
    assert reads == [0, 4096, 8192]


@pytest.mark.parametrize(
    ("kind", "question"),
    [
        (Kind.READ, "a read of the image at sector 0"),
        (Kind.BLOCK_STATUS, "block status at sector 0"),
    ],
)
def test_a_driver_that_hangs(bench: Bench, kind: Kind, question: str) -> None:
    bench.defect = lambda asked, *_: "never" if asked == kind else None
    result = bench.sweep(timeout=0.02)
    assert not result.clean
    assert not result.damage
    assert result.failed == Failed(question, errno.ETIMEDOUT)


# ---------------------------------------------------------------- block sizes


@pytest.fixture
def aligned(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """Reads of the test side, of which each must suit a block size of 16 KiB."""
    reads: list[tuple[int, int]] = []

    def note(kind: int, offset: int, length: int) -> Answer | None:
        if kind == Kind.READ:
            reads.append((offset, length))
        return None

    bench.defect = note
    init = Bad.__init__

    def with_block_size(self: Bad, path: Path) -> None:
        init(self, path)
        self.export = p.Export(SIZE, self.export.flags, p.BlockSizes(16384, 16384, 32768))

    monkeypatch.setattr(Bad, "__init__", with_block_size)
    yield reads
    assert all(offset % 16384 == length % 16384 == 0 for offset, length in reads), reads


def test_reads_suit_the_drivers_block_size(bench: Bench, aligned: list[tuple[int, int]]) -> None:
    """The reference's holes may begin and end anywhere."""
    assert bench.sweep().clean
    assert sum(length for _, length in aligned) == SIZE


def test_reads_of_a_part_suit_the_drivers_block_size(
    bench: Bench, aligned: list[tuple[int, int]]
) -> None:
    bench.damage(18 * SECTOR, b"\0")
    only = RangeSet([(18 * SECTOR, 19 * SECTOR)])
    assert sectors(bench.sweep(scope=Scope(only=only))) == [(18, 19)]
    assert aligned
