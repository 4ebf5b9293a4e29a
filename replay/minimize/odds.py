"""How many runs tell whether a candidate shows a fault that does not show in every run.

This is Wald's sequential probability ratio test ("Sequential Tests of Statistical Hypotheses",
1945). It weighs two rates against each other: that at which the fault is known to show, and FEWER
of it. So a candidate that shows the fault far more seldom is turned down, though it shows it.
"""

from dataclasses import dataclass
from math import log

FEWER = 0.25
"""The share of the known rate that is too little."""

HIGHEST = 0.95
"""The rate of a fault that has shown in each of a few runs: it may still miss one."""


@dataclass(frozen=True, slots=True)
class Odds:
    """The test for one fault."""

    rate: float | None = None
    """The share of runs in which the fault shows; None: in every run, so that one run decides."""
    sure: float = 0.99
    """How sure a decision must be, from 0 to 1."""

    def decide(self, shown: int, runs: int) -> bool | None:
        """Return whether a candidate shows the fault, after ``runs`` runs of which ``shown`` did;
        None if more runs are needed."""
        if self.rate is None:
            return shown > 0 if runs else None
        rate = min(self.rate, HIGHEST)
        few = rate * FEWER
        weight = shown * log(rate / few) + (runs - shown) * log((1 - rate) / (1 - few))
        limit = log(self.sure / (1 - self.sure))
        return True if weight >= limit else False if weight <= -limit else None
