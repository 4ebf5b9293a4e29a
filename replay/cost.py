"""The cost of running a trace, as values that can be added."""

from dataclasses import dataclass
from enum import Enum, auto


class Purpose(Enum):
    """What a run is for. The cost of confirming a culprit is counted separately."""

    SEARCH = auto()
    CONFIRM = auto()


@dataclass(frozen=True, slots=True)
class Cost:
    """What one or more runs of a trace cost."""

    ops: int = 0
    """Ops sent to the driver, summed over the runs."""
    runs: int = 0
    """Runs that were started."""
    confirm_ops: int = 0
    """How many of the ``ops`` were sent to confirm a culprit."""

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            ops=self.ops + other.ops,
            runs=self.runs + other.runs,
            confirm_ops=self.confirm_ops + other.confirm_ops,
        )
