"""What the mirror calls a difference, and what it does about fast zeroes."""

import errno
from pathlib import Path

import pytest

from tests.tracer.mirror.bench import SIZE, Bench, ranges, sectors
from tracer.disk.device import CONNECTION_LOST
from tracer.errors import StorageError
from tracer.op import MUTATING, SECTOR, Fault, Flag, Kind

# ---------------------------------------------------------------- differences


def test_a_lost_write_is_seen_by_the_next_read(bench: Bench) -> None:
    bench.run(Kind.WRITE, *sectors(4, 4))
    bench.fake.data[5 * SECTOR : 6 * SECTOR] = bytes(SECTOR)
    bench.fake.data[7 * SECTOR + 100] = 0
    read = bench.run(Kind.READ, 0, SIZE)
    (difference,) = bench.differences
    assert difference.op is read.op
    assert difference.fault == Fault.DATA
    assert ranges(difference) == [(5, 6), (7, 8)]
    assert (difference.offset, difference.length) == (5 * SECTOR, 3 * SECTOR)
    assert difference.expected == b"w" * (3 * SECTOR)
    assert difference.actual[:SECTOR] == bytes(SECTOR)


def test_a_difference_is_known_when_an_op_is_done(bench: Bench) -> None:
    seen: list[int] = []
    bench.mirror._done = lambda flight: seen.append(len(flight.differences))
    bench.fake.data[0] = 1
    bench.run(Kind.READ, 0, 512)
    bench.run(Kind.READ, 512, 512)
    assert seen == [1, 0]


@pytest.mark.parametrize(
    "kind", [Kind.READ, Kind.WRITE, Kind.ZERO, Kind.TRIM, Kind.FLUSH, Kind.CACHE]
)
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EINVAL])
def test_a_failure_on_one_side_is_a_difference(bench: Bench, kind: Kind, number: int) -> None:
    bench.fake.defect = lambda key: (number, None, []) if key[0] == kind else None
    data = b"w" * 512 if kind == Kind.WRITE else None
    flight = bench.run(kind, 512, 512, data)
    (difference,) = bench.differences
    assert difference.fault == Fault.STATUS
    assert difference.op is flight.op
    assert (difference.expected_status, difference.actual_status) == (0, number)
    assert (flight.op.reference_status, flight.op.test_status) == (0, number)


@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.ZERO, Kind.TRIM])
def test_what_a_failed_change_left_is_reported_once(bench: Bench, kind: Kind) -> None:
    bench.run(Kind.WRITE, *sectors(0, 4, b"a"))
    bench.fake.defect = lambda key: (errno.EIO, None, []) if key[0] == kind else None
    bench.run(kind, 512, 512, b"b" * 512 if kind == Kind.WRITE else None)
    bench.run(Kind.READ, 0, 2048)
    assert [difference.fault for difference in bench.differences] == [Fault.STATUS]
    bench.fake.defect = lambda key: None
    bench.run(Kind.WRITE, *sectors(0, 4, b"c"))
    bench.fake.data[512] = 0
    bench.run(Kind.READ, 0, 2048)
    assert [difference.fault for difference in bench.differences] == [Fault.STATUS, Fault.DATA]


def test_failure_on_both_sides_is_no_difference(bench: Bench) -> None:
    bench.fake.defect = lambda key: (errno.EIO, None, [])
    bench.reference.execute = lambda *_: (errno.EIO, None, [])  # type: ignore[method-assign]
    bench.run(Kind.READ, 0, SECTOR)
    assert bench.differences == []


def test_a_reference_that_cannot_be_written_is_our_own_failure(bench: Bench) -> None:
    bench.reference.execute = lambda *_: (errno.ENOSPC, None, [])  # type: ignore[method-assign]
    bench.run(Kind.WRITE, *sectors(0))
    assert bench.differences == []
    assert isinstance(bench.mirror.failed, StorageError)


@pytest.mark.parametrize("kind", [Kind.READ, Kind.WRITE, Kind.TRIM, Kind.ZERO, Kind.BLOCK_STATUS])
@pytest.mark.parametrize("flags", [0, Flag.FAST_ZERO])
def test_a_driver_that_went_away_is_no_difference(bench: Bench, kind: Kind, flags: int) -> None:
    """It is reported as such; what it did of its last changes is unknown."""
    bench.fake.defect = lambda key: (CONNECTION_LOST, None, [])
    flight = bench.run(kind, 512, 512, b"w" * 512 if kind == Kind.WRITE else None, flags)
    assert bench.differences == []
    assert len(bench.done) == 1
    assert flight.op.test_status == CONNECTION_LOST
    assert bench.comparison.defined(512, 1024) == (kind not in MUTATING)


# ---------------------------------------------------------------- fast zero


def test_a_zero_that_is_not_fast_is_done_on_neither_side(bench: Bench) -> None:
    bench.run(Kind.WRITE, *sectors(0, 4))
    flight = bench.run(Kind.ZERO, SECTOR, SECTOR, None, Flag.FAST_ZERO)
    assert flight.op.reference_status == flight.op.test_status == errno.ENOTSUP
    assert bench.differences == []
    assert bench.reference_bytes()[:2048] == b"w" * 2048
    assert bench.comparison.defined(0, SIZE)


def test_a_fast_zero_is_done_on_both_sides(bench: Bench) -> None:
    bench.run(Kind.WRITE, *sectors(0, 4))
    bench.run(Kind.ZERO, 0, SECTOR, None, Flag.FAST_ZERO)
    assert bench.reference_bytes() == bytes(bench.fake.data)
    assert bench.reference_bytes()[:SECTOR] == bytes(SECTOR)


def test_a_fast_zero_that_fails_in_another_way_is_a_difference(bench: Bench) -> None:
    """ENOTSUP says that it is not fast and that nothing was done. Any other errno is a failure."""
    bench.fake.defect = lambda key: (errno.EIO, None, []) if key[0] == Kind.ZERO else None
    bench.run(Kind.ZERO, 0, SECTOR, None, Flag.FAST_ZERO)
    assert [difference.fault for difference in bench.differences] == [Fault.STATUS]
    assert not bench.comparison.defined(0, SECTOR)


def test_a_mirror_that_insists_does_it_slowly(image: Path) -> None:
    bench = Bench(image, insist=True)
    bench.run(Kind.WRITE, *sectors(0, 4))
    flight = bench.run(Kind.ZERO, SECTOR, SECTOR, None, Flag.FAST_ZERO)
    assert (flight.op.reference_status, flight.op.test_status) == (0, 0)
    assert bench.reference_bytes() == bytes(bench.fake.data)
    assert bench.reference_bytes()[: 2 * SECTOR] == b"w" * SECTOR + bytes(SECTOR)
    assert bench.differences == []
    bench.close()
