"""Where the power may be cut, and which states there are."""

from itertools import islice

from replay.below.shrink import shrunk
from replay.below.states.points import LAST, RANDOM, Crash, Points
from replay.below.states.sample import batches
from tracer.below.op import LowerKind, LowerOp
from tracer.op import SECTOR

K = LowerKind


def ops(*kinds: LowerKind, fua: frozenset[int] = frozenset()) -> list[LowerOp]:
    return [
        LowerOp(number, kind, number * 4096, 0 if kind is K.FLUSH else 4096, fua=number in fua)
        for number, kind in enumerate(kinds)
    ]


def states_at(points: Points, point: int) -> list[Crash]:
    first = points.number(point, 0)
    return [points.state(first + variant) for variant in range(points.states_at(point))]


def test_a_flush_covers_what_came_before_it() -> None:
    points = Points(ops(K.WRITE, K.WRITE, K.FLUSH, K.WRITE))
    assert [points.open(point) for point in range(5)] == [[], [0], [0, 1], [], [3]]


def test_the_power_is_cut_before_a_flush_ends_and_after_it() -> None:
    points = Points(ops(K.WRITE, K.FLUSH))
    assert {crash.missing for crash in states_at(points, 1)} == {frozenset(), frozenset({0})}
    assert states_at(points, 2) == [Crash(2)]


def test_an_op_with_fua_is_there() -> None:
    points = Points(ops(K.WRITE, K.WRITE, fua=frozenset({1})))
    assert points.open(2) == [0]
    assert all(1 not in crash.missing for crash in states_at(points, 2))


def test_each_of_the_last_is_missing_or_alone() -> None:
    points = Points(ops(*[K.WRITE] * 20))
    missing = [crash.missing for crash in states_at(points, 20) if crash.torn is None]
    every = frozenset(range(20))
    assert missing[:2] == [frozenset(), every]
    assert set(missing[2 : 2 + LAST]) == {frozenset({n}) for n in range(20 - LAST, 20)}
    assert set(missing[2 + LAST : 2 + 2 * LAST]) == {every - {n} for n in range(20 - LAST, 20)}
    assert len(missing) == 2 + 2 * LAST + RANDOM


def test_the_last_op_is_torn_between_sectors() -> None:
    torn = [c.torn for c in states_at(Points(ops(K.WRITE)), 1) if c.torn is not None]
    assert torn == [4 * SECTOR, 7 * SECTOR]


def test_numbers_and_states_belong_together() -> None:
    points = Points(ops(*[K.WRITE, K.DISCARD, K.TRUNCATE, K.FLUSH, K.ZERO] * 4))
    assert points.states == sum(map(points.states_at, range(points.count)))
    found = [points.state(number) for number in range(points.states)]
    assert [c.point for c in found] == sorted(c.point for c in found)
    assert {c.point for c in found} == set(range(points.count))


def test_the_seed_selects_the_random_subsets() -> None:
    lower = ops(*[K.WRITE] * 30)
    one, same, other = Points(lower, 1), Points(lower, 1), Points(lower, 2)
    assert states_at(one, 30) == states_at(same, 30)
    assert states_at(one, 30) != states_at(other, 30)


def test_all_states_are_sampled_in_the_end() -> None:
    points = Points(ops(*[K.WRITE, K.WRITE, K.FLUSH] * 20))
    for all_ in (False, True):
        found = list(batches(points, [3, 6], 0, all_=all_))
        numbers = [number for batch in found for number in batch]
        assert sorted(numbers) == list(range(points.states))
        assert all(batch == sorted(batch) for batch in found)


def test_points_after_promises_come_first() -> None:
    points = Points(ops(*[K.WRITE] * 500))
    first = next(batches(points, [400], 0, all_=False))
    assert points.number(400, 0) in first


def test_a_sample_of_a_long_run_takes_no_longer_than_it_is() -> None:
    points = Points(ops(*[K.WRITE] * 3000))
    assert sum(len(batch) for batch in islice(batches(points, [], 0, all_=False), 2)) == 256


def test_the_fewest_missing_ops_are_found() -> None:
    needed = frozenset({3, 11})
    tried = []

    def same(crash: Crash) -> str | None:
        tried.append(crash)
        return "still" if needed <= crash.missing else None

    found = shrunk(Crash(20, frozenset(range(20))), "first", same)
    assert found == (Crash(20, needed), "still", True)
    assert len(tried) < 60


def test_a_state_that_needs_nothing_missing() -> None:
    found = shrunk(Crash(20, frozenset({1, 2})), "first", lambda crash: "again")
    assert found == (Crash(20), "again", True)


def test_what_cannot_be_shrunk_stays() -> None:
    crash = Crash(20, frozenset({1, 2}))
    assert shrunk(crash, "first", lambda other: None) == (crash, "first", True)
