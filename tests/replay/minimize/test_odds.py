"""The sequential test: how often it is wrong."""

import random

import pytest

from replay.minimize.odds import FEWER, Odds


def decided(odds: Odds, rate: float, chance: random.Random) -> tuple[bool, int]:
    shown = runs = 0
    while (answer := odds.decide(shown, runs)) is None:
        runs += 1
        shown += chance.random() < rate
    return answer, runs


def test_one_run_decides_if_the_fault_always_shows() -> None:
    odds = Odds()
    assert odds.decide(0, 0) is None
    assert odds.decide(1, 1) is True
    assert odds.decide(0, 1) is False


@pytest.mark.parametrize("rate", [1.0, 0.5, 0.2])
def test_it_is_as_sure_as_it_says(rate: float) -> None:
    odds, chance = Odds(rate, 0.99), random.Random(0)
    taken = sum(decided(odds, rate, chance)[0] for _ in range(1000))
    refused = sum(not decided(odds, rate * FEWER, chance)[0] for _ in range(1000))
    assert taken >= 980
    assert refused >= 980


def test_surer_takes_more_runs() -> None:
    counts = []
    for sure in (0.9, 0.99, 0.9999):
        chance = random.Random(0)
        counts.append(sum(decided(Odds(0.3, sure), 0.3, chance)[1] for _ in range(200)))
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
