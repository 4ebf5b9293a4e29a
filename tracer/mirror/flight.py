"""An op on its way through the mirror."""

from typing import Any

from tracer.disk.device import Data
from tracer.mirror.difference import Difference
from tracer.op import Buffer, Extents, Op

NO_DIFFERENCES: list[Difference] = []
"""The list of nearly every flight, shared to save time and memory. It must not be changed."""


class Flight:
    """An op on its way through the mirror.

    ``data`` is a write's payload, or, once both sides are done, the bytes that the guest reads.
    ``extents`` is the block status for the guest, ``differences`` what the two sides disagree on.
    ``forgiven``: it failed on the test side with an errno that is allowed. ``contested``: it was in
    flight together with an op that it conflicts with, or met a range that such ops have left open.
    ``token`` is for the caller.
    """

    __slots__ = (
        "blockers",
        "contested",
        "data",
        "differences",
        "extents",
        "forgiven",
        "op",
        "referred",
        "since",
        "started",
        "test_data",
        "test_extents",
        "tested",
        "token",
        "waiters",
    )

    def __init__(self, op: Op, data: Buffer | None = None, token: Any = None) -> None:
        self.op = op
        self.data = data
        self.token = token
        self.differences: list[Difference] = NO_DIFFERENCES
        self.extents: Extents = []
        self.blockers = 0
        self.waiters: list[Flight] | None = None
        self.since = 0
        """The event of its submission (tracer/candidates/)."""
        self.started = 0
        self.tested = self.referred = self.forgiven = self.contested = False
        self.test_data: Data | None = None
        self.test_extents: Extents = []
