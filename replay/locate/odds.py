"""Whether counts of bad runs prove something, or chance explains them."""

from math import comb

SIGNIFICANT = 0.05
"""The largest probability of chance that still counts as proof. 3 of 3 bad runs against 0 of 3 have
it exactly."""


def chance(bad: int, runs: int, bad_without: int, runs_without: int) -> float:
    """Return the probability that at least ``bad`` of all bad runs fall among the ``runs`` runs
    with an op, if the op makes no difference (Fisher's exact test, one-sided)."""
    all_bad, everything = bad + bad_without, runs + runs_without
    ways = sum(
        comb(runs, count) * comb(runs_without, all_bad - count)
        for count in range(bad, min(all_bad, runs) + 1)
    )
    return ways / comb(everything, all_bad)


def proven(bad: int, runs: int, bad_without: int, runs_without: int) -> bool:
    """Return whether chance does not explain the counts."""
    return bad > 0 and chance(bad, runs, bad_without, runs_without) <= SIGNIFICANT + 1e-9
