"""Delta debugging: what is needed stays, what is not goes, and what that costs."""

import random

import pytest

from replay.minimize.lab import Candidate
from replay.minimize.part import Index, Part
from replay.minimize.reduce import reduce
from tests.replay.minimize.simulated import lab

MILLION = 1_000_000


def part(count: int) -> Part:
    """All positions of a trace of so many ops, of which nothing else is known."""
    index = Index.__new__(Index)
    return Part(index, range(count))


def needing(needed: set[int]):  # type: ignore[no-untyped-def]
    """A predicate: a fault that needs these ops."""

    def shows(candidate: Candidate) -> bool:
        assert isinstance(candidate, Part)
        return needed <= set(candidate.kept)

    return shows


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("seed", range(20))
def test_only_what_is_needed_stays(seed: int, jobs: int) -> None:
    chance = random.Random(seed)
    count = chance.randrange(1, 500)
    needed = set(chance.sample(range(count), min(count, chance.randrange(1, 6))))
    smaller = list(reduce(lab(needing(needed), jobs), part(count)))
    left = smaller[-1] if smaller else part(count)
    assert set(left.kept) == needed
    assert [len(one) for one in smaller] == sorted((len(one) for one in smaller), reverse=True)


def test_the_result_does_not_depend_on_the_jobs() -> None:
    def shows(candidate: Candidate) -> bool:  # not monotone: the number left counts too
        assert isinstance(candidate, Part)
        return {3, 77} <= set(candidate.kept) and len(candidate) % 7 != 3

    left = [tuple(list(reduce(lab(shows, jobs), part(200)))[-1].kept) for jobs in (1, 2, 5)]
    assert len(set(left)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_three_ops_among_a_million_cost_seven_passes_at_most(seed: int) -> None:
    needed = {*random.Random(seed).sample(range(MILLION - 1), 2), MILLION - 1}

    def shows(candidate: Candidate) -> bool:
        assert isinstance(candidate, Part)
        kept = candidate.kept
        return all(_holds(kept, one) for one in needed)

    tested = lab(shows)
    left = list(reduce(tested, part(MILLION)))[-1]
    assert set(left.kept) == needed
    assert tested.counters.ops <= 7 * MILLION
    assert tested.counters.tests < 200


def _holds(kept, wanted: int) -> bool:  # type: ignore[no-untyped-def]
    from bisect import bisect_left

    at = bisect_left(kept, wanted)
    return at < len(kept) and kept[at] == wanted
