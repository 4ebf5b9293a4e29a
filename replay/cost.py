"""What runs of a trace cost, as a value that adds up, and what a run is for."""

from dataclasses import dataclass
from enum import Enum, auto


class Purpose(Enum):
    """What a run is for: the cost of confirming a culprit is counted apart."""

    SEARCH = auto()
    CONFIRM = auto()


@dataclass(frozen=True, slots=True)
class Cost:
    """What runs of a trace cost."""

    ops: int = 0
    """Ops sent to the driver, in all runs together."""
    runs: int = 0
    """Runs that were started."""
    confirm_ops: int = 0
    """How many of the ``ops`` served to confirm a culprit."""

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            ops=self.ops + other.ops,
            runs=self.runs + other.runs,
            confirm_ops=self.confirm_ops + other.confirm_ops,
        )
