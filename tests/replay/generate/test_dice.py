"""Random choices: the same everywhere, and none beyond its bounds."""

from collections import Counter
from itertools import pairwise

import pytest

from replay.generate.dice import Dice

SEEDS = range(20)
DRAWS = 500


def test_the_same_seed_gives_the_same_choices() -> None:
    """Pinned: these numbers must not change with Python's version."""
    dice = Dice(7)
    assert [dice.below(1000) for _ in range(8)] == [331, 970, 154, 404, 666, 49, 74, 840]
    assert [dice.chance(0.5) for _ in range(8)] == [
        False, True, True, False, True, True, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 100, 1 << 44])
def test_below_and_between_keep_to_their_bounds(count: int) -> None:
    dice = Dice(count)
    found = {dice.below(count) for _ in range(DRAWS)}
    assert min(found) >= 0
    assert max(found) < count
    if count < 10:
        assert found == set(range(count))
        assert {dice.between(5, 4 + count) for _ in range(DRAWS)} == set(range(5, 5 + count))


@pytest.mark.parametrize("most", [1, 2, 3, 5, 8, 31, 1000])
def test_spread_and_around_reach_both_ends(most: int) -> None:
    dice = Dice(most)
    spread = Counter(dice.spread(1, most) for _ in range(20 * DRAWS))
    around = Counter(dice.around(most) for _ in range(20 * DRAWS))
    for found in (spread, around):
        assert (min(found), max(found)) == (1, most)
    if most >= 8:
        shares = [sum(spread[n] for n in range(p, 2 * p)) for p in (1, 2, 4)]
        assert all(0.7 < a / b < 1.4 for a, b in pairwise(shares))
        assert around[4] > 4 * around[6]


def test_weights_decide_how_often() -> None:
    dice = Dice(0)
    found = Counter(dice.weighted({"a": 1, "b": 8}) for _ in range(20 * DRAWS))
    assert set(found) == {"a", "b"}
    assert 6 < found["b"] / found["a"] < 10


def test_percent_and_chance_at_their_ends() -> None:
    dice = Dice(0)
    assert not any(dice.percent(0) or dice.chance(0.0) for _ in range(DRAWS))
    assert all(dice.percent(100) and dice.chance(1.0) for _ in range(DRAWS))
