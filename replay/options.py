"""The options of a replay, and the order in which a run sends its ops.

Both are frozen values that are passed as arguments. To change an order, make another with
``dataclasses.replace``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tracer.driver.driver import Driver
from tracer.mirror.scope import USUAL, Scope
from tracer.op import Conflicts, OnConflict, Op
from tracer.verdict import StartKind

TIMEOUT = 30.0
"""The default time limit for an op, in seconds."""


@dataclass(frozen=True, slots=True)
class Order:
    """How the ops of one run are sent."""

    seed: int = 0
    """Selects an order for ops that were in flight together (replay/interleave.py). 0 is the
    recorded order."""
    depth: int | None = None
    """The most ops in flight; None means as many as recorded."""
    apart: frozenset[tuple[int, int]] = frozenset()
    """Pairs of positions, the earlier one first. The later op waits until the earlier op is
    done."""
    skip: frozenset[int] = frozenset()
    """Positions of ops that are not sent."""


AS_RECORDED = Order()


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What the user asked a replay to do."""

    driver: Driver
    """The build under test."""
    work: Path
    """The folder that holds one folder per run, for the run's images."""
    reader: Driver | None = None
    """The build that reopens the images, if another than the driver."""
    start: StartKind | None = None
    """How the images get the data that the disk starts with; None: converted if the driver can,
    otherwise written."""
    order: Order = AS_RECORDED
    """How ops are sent. Repeated runs and the search for the culprit may use another order."""
    conflicts: OnConflict | None = None
    """What to do with an op that conflicts with ops in flight; None: as recorded."""
    connections: int | None = None
    """Spread the ops over so many connections to the driver; None: each op is sent on the
    connection on which it was recorded."""
    restart_every: int | None = None
    """Restart the driver after every so many ops, and where the recording did."""
    upto: int | None = None
    """Replay the first ``upto`` ops; None means the whole trace."""
    runs: int = 1
    """How many clean runs of the whole trace make the driver clean, and how many runs confirm a
    culprit."""
    find: bool = True
    """Whether to search for the culprit if anything is wrong."""
    complete: bool = False
    """Whether a run goes through all its stages though no culprit is searched for."""
    time: float | None = None
    """The most seconds that the search may take. None means five times the first run, and at least
    30 s."""
    allowed: frozenset[int] = frozenset()
    """The errno values that the driver may return for an op."""
    timeout: float = TIMEOUT
    """The time limit for an op, in seconds."""
    keep: bool = False
    """Whether the images of every run stay in ``work``."""
    part: bool = False
    """Whether the trace is a part of what was recorded, so that reads may return other data than
    they did then."""
    scope: Scope = USUAL
    """What comparisons of the images read."""
    observe: Callable[[Op], None] | None = None
    """Gets each op of the first whole run once the driver has answered it: ``test_ns`` is how long
    that took."""
    force: bool = False
    """Whether a replay may overwrite the data of a server or a block device."""

    def holds(self, recorded: Conflicts) -> bool:
        """Whether an op that conflicts with ops in flight waits for them; ``recorded`` is what the
        recording did."""
        if self.conflicts is None:
            return recorded is Conflicts.HELD
        return self.conflicts is OnConflict.HOLD
