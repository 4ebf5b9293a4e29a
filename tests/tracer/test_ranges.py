"""RangeSet against a set of integers."""

from hypothesis import given
from hypothesis import strategies as st

from tracer.op import SECTOR
from tracer.ranges import RangeSet

SPAN = 40
bounds = st.integers(0, SPAN)
edits = st.lists(st.tuples(st.sampled_from(["add", "remove"]), bounds, bounds), max_size=12)


def build(edits_: list[tuple[str, int, int]]) -> tuple[RangeSet, set[int]]:
    ranges, model = RangeSet(), set[int]()
    for what, start, end in edits_:
        getattr(ranges, what)(start, end)
        members = set(range(start, end))
        model = model | members if what == "add" else model - members
    return ranges, model


def members(pieces: object) -> list[int]:
    return [number for start, end in pieces for number in range(start, end)]  # type: ignore[attr-defined]


@given(edits)
def test_add_and_remove_agree_with_a_set(edits_: list[tuple[str, int, int]]) -> None:
    ranges, model = build(edits_)
    assert members(ranges) == sorted(model)
    assert ranges.total() == len(model)
    assert bool(ranges) == bool(model)


@given(edits)
def test_ranges_are_sorted_disjoint_and_do_not_touch(edits_: list[tuple[str, int, int]]) -> None:
    ranges, _ = build(edits_)
    flat = [bound for piece in ranges for bound in piece]
    assert flat == sorted(set(flat))
    assert len(flat) == 2 * len(ranges)


@given(edits, bounds, bounds)
def test_within_outside_and_overlaps(
    edits_: list[tuple[str, int, int]], start: int, end: int
) -> None:
    ranges, model = build(edits_)
    asked = set(range(start, end))
    assert members(ranges.within(start, end)) == sorted(asked & model)
    assert members(ranges.outside(start, end)) == sorted(asked - model)
    assert ranges.overlaps(start, end) == bool(asked & model)


@given(edits, bounds, bounds)
def test_pieces_are_never_empty(edits_: list[tuple[str, int, int]], start: int, end: int) -> None:
    ranges, _ = build(edits_)
    pieces = [*ranges, *ranges.within(start, end), *ranges.outside(start, end)]
    assert all(first < last for first, last in pieces)


@given(edits, st.sampled_from([1, 2, 8]))
def test_aligned_widens_to_whole_units(edits_: list[tuple[str, int, int]], unit: int) -> None:
    ranges, model = build(edits_)
    units = {number // unit for number in model}
    wanted = [number for one in sorted(units) for number in range(one * unit, one * unit + unit)]
    assert members(ranges.aligned(unit)) == wanted


@given(edits)
def test_equal_members_make_equal_sets(edits_: list[tuple[str, int, int]]) -> None:
    ranges, model = build(edits_)
    assert ranges == RangeSet((number, number + 1) for number in model)


@given(edits)
def test_sectors_are_those_that_any_byte_is_in(edits_: list[tuple[str, int, int]]) -> None:
    ranges, _ = build([(what, 100 * start, 100 * end) for what, start, end in edits_])
    found = [(first + at) for first, count in ranges.sectors() for at in range(count)]
    expected = {at // SECTOR for start, end in ranges for at in range(start, end)}
    assert found == sorted(expected)


def test_different_sets_are_not_equal() -> None:
    assert RangeSet([(0, 1)]) != RangeSet([(0, 2)])
    assert RangeSet([(0, 1)]) != [(0, 1)]


def test_a_copy_is_independent() -> None:
    ranges = RangeSet([(0, 10)])
    twin = ranges.copy()
    twin.remove(2, 3)
    assert list(ranges) == [(0, 10)]
    assert list(twin) == [(0, 2), (3, 10)]
