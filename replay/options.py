"""What a user asks of a replay, and how the ops of a run are sent.

Both are values that travel as arguments. Whoever wants another order makes one with
``dataclasses.replace``.
"""

from dataclasses import dataclass
from pathlib import Path

from tracer.driver.driver import Driver

TIMEOUT = 30.0
"""Seconds that an op may take, unless the user says otherwise."""


@dataclass(frozen=True, slots=True)
class Order:
    """How the ops of one run are sent."""

    seed: int = 0
    """Picks an order of the ops that were in flight together (replay/interleave.py); 0 is the
    recorded order."""
    depth: int | None = None
    """At most this many ops in flight; None is as recorded."""


AS_RECORDED = Order()


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What a user asks of a replay."""

    driver: Driver
    """The build under test."""
    work: Path
    """The folder in which each run gets a folder for its images."""
    reader: Driver | None = None
    """The build that reopens the images, where it is not the driver."""
    order: Order = AS_RECORDED
    """How ops are sent. Repeated runs and the search may use another order."""
    upto: int | None = None
    """Replay this many ops; None is the whole trace."""
    runs: int = 1
    """Runs of the whole trace before the driver is called clean, and to confirm a culprit."""
    find: bool = True
    """Whether to look for the culprit if anything is wrong."""
    timeout: float = TIMEOUT
    """Seconds that an op may take."""
    keep: bool = False
    """Whether the images of every run stay in ``work``."""
    force: bool = False
    """Whether the data of a server or a block device may be overwritten."""
