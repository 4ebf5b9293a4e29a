"""Counts of bad runs that prove something, and counts that chance explains."""

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.locate.odds import chance, proven


@pytest.mark.parametrize(
    ("bad", "runs", "bad_without", "runs_without"),
    [(3, 3, 0, 3), (5, 8, 0, 8), (4, 8, 0, 8), (5, 20, 0, 20), (8, 8, 3, 8)],
)
def test_these_prove_it(bad: int, runs: int, bad_without: int, runs_without: int) -> None:
    assert proven(bad, runs, bad_without, runs_without)


@pytest.mark.parametrize(
    ("bad", "runs", "bad_without", "runs_without"),
    [(1, 8, 0, 8), (3, 8, 0, 8), (4, 20, 0, 20), (2, 2, 0, 2), (0, 8, 0, 8), (8, 8, 5, 8)],
)
def test_these_do_not(bad: int, runs: int, bad_without: int, runs_without: int) -> None:
    assert not proven(bad, runs, bad_without, runs_without)


@given(st.integers(0, 12), st.integers(1, 12), st.integers(0, 12), st.integers(1, 12))
def test_it_is_the_share_of_all_ways_to_place_the_bad_runs(
    bad: int, runs: int, bad_without: int, runs_without: int
) -> None:
    bad, bad_without = min(bad, runs), min(bad_without, runs_without)
    everything, all_bad = runs + runs_without, bad + bad_without
    ways = sum(
        comb(runs, here) * comb(runs_without, all_bad - here)
        for here in range(all_bad + 1)
        if here >= bad and here <= runs and all_bad - here <= runs_without
    )
    assert chance(bad, runs, bad_without, runs_without) == ways / comb(everything, all_bad)
