"""What both sides say of a range, and false holes."""

import pytest

from tests.kit.traces import changed
from tests.tracer.mirror.bench import HOLE, SIZE, Bench, ranges, sectors
from tracer.mirror.block_status import common_extents, false_holes
from tracer.nbd import protocol as p
from tracer.op import SECTOR, Extents, Fault, Kind


def test_a_false_hole_is_a_difference(bench: Bench) -> None:
    bench.run(Kind.WRITE, *sectors(3, 2))
    bench.fake.defect = lambda key: (
        (0, None, [(SIZE, HOLE)]) if key[0] == Kind.BLOCK_STATUS else None
    )
    flight = bench.run(Kind.BLOCK_STATUS, 0, SIZE)
    (difference,) = bench.differences
    assert difference.op is flight.op
    assert difference.fault == Fault.BLOCK_STATUS
    assert ranges(difference) == [(3, 5)]
    assert difference.expected == b"w" * 1024
    assert difference.actual == bytes(1024)


def test_zeroes_that_are_called_data_are_no_difference(bench: Bench) -> None:
    bench.fake.defect = lambda key: (0, None, [(SIZE, 0)])
    assert bench.run(Kind.BLOCK_STATUS, 0, SIZE).extents == [(SIZE, 0)]
    assert bench.differences == []


def test_data_called_a_hole_but_not_zero_is_no_difference(bench: Bench) -> None:
    bench.run(Kind.WRITE, *sectors(0, 8))
    bench.fake.defect = lambda key: (0, None, [(SIZE, int(p.State.HOLE))])
    bench.run(Kind.BLOCK_STATUS, 0, SIZE)
    assert bench.differences == []


def test_a_trimmed_range_may_be_called_a_hole(bench: Bench) -> None:
    bench.run(Kind.WRITE, *sectors(0, 8))
    bench.comparison.done(changed(Kind.TRIM, 0, 4 * SECTOR, failed=False))
    assert lies(bench, [(4 * SECTOR, HOLE)]) == []
    assert lies(bench, [(5 * SECTOR, HOLE)]) == [(4 * SECTOR, b"w" * SECTOR)]


def test_every_false_hole_is_found(bench: Bench) -> None:
    bench.run(Kind.WRITE, *sectors(0, 8))
    hole, data = (SECTOR, HOLE), (SECTOR, 0)
    found = lies(bench, [hole, data, hole, hole, data])
    assert found == [(at * SECTOR, b"w" * SECTOR) for at in (0, 2, 3)]


def test_only_what_was_asked_for_is_looked_at(bench: Bench) -> None:
    bench.run(Kind.WRITE, *sectors(8))
    assert lies(bench, [(1 << 30, HOLE)]) == []


def lies(bench: Bench, extents: Extents) -> list[tuple[int, bytes]]:
    """The false holes in the block status of the first eight sectors."""
    return list(false_holes(bench.reference, bench.comparison, 0, 8 * SECTOR, extents))


@pytest.mark.parametrize(
    ("ours", "theirs", "length", "both"),
    [
        ([(10, 3)], [(10, 3)], 10, [(10, 3)]),
        ([(10, 3)], [(10, 0)], 10, [(10, 0)]),
        ([(10, 3)], [(10, 2)], 10, [(10, 2)]),
        ([(4, 3), (6, 0)], [(10, 3)], 10, [(4, 3), (6, 0)]),
        ([(4, 3), (6, 0)], [(7, 3), (3, 1)], 10, [(4, 3), (6, 0)]),
        ([(10, 3)], [(4, 3)], 10, [(4, 3)]),
        ([(10, 3)], [(1 << 30, 3)], 10, [(10, 3)]),
        ([(5, 3), (5, 3)], [(2, 3), (8, 3)], 10, [(10, 3)]),
        ([(10, 3)], [], 10, []),
    ],
)
def test_what_both_sides_agree_on(
    ours: Extents, theirs: Extents, length: int, both: Extents
) -> None:
    assert common_extents(ours, theirs, length) == both
