"""A value that a range may hold: what was there before, or what one op may have left."""

from enum import Enum, auto

from tracer.op import CARRIES_DATA, Buffer, Kind, Op, TrimRule

FOREVER = 1 << 62
"""An event that does not come. Events are submissions and completions of ops, counted from 1."""

BEFORE = 0
"""An event before all others."""


class Holds(Enum):
    """What a value consists of."""

    BASE = auto()
    """What the reference image holds: what was there before the conflict."""
    DATA = auto()
    """An op's payload."""
    ZEROES = auto()
    ANYTHING = auto()
    """Any bytes: a trim's, or those of an op that failed."""


class Value:
    """What an op may leave.

    ``since`` and ``finish`` are the events of its op's submission and completion. A ``loose`` value
    may come and go byte by byte, so that it overwrites nothing for good: that of a trim, or of an
    op that failed.
    """

    __slots__ = ("at", "data", "failed", "finish", "holds", "loose", "seq", "since")

    def __init__(
        self, seq: int, holds: Holds, since: int, *, data: Buffer | None = None, at: int = 0,
        loose: bool = False,
    ) -> None:  # fmt: skip
        self.seq = seq
        self.holds = holds
        self.data = data
        self.at = at
        """The place on the disk, in bytes, of ``data``'s first byte."""
        self.since = since
        self.finish = FOREVER
        self.loose = loose
        self.failed = False

    @classmethod
    def of(cls, op: Op, data: Buffer | None, since: int, rule: TrimRule) -> "Value":
        """Return what an op that may change data leaves if it succeeds."""
        if op.kind in CARRIES_DATA:
            return cls(op.seq, Holds.DATA, since, data=data, at=op.offset)
        if op.kind == Kind.TRIM:
            holds = Holds.ANYTHING if rule is TrimRule.ANY else Holds.ZEROES
            return cls(op.seq, holds, since, loose=True)
        return cls(op.seq, Holds.ZEROES, since)

    def fail(self) -> None:
        """Note that the op failed, perhaps after a part of its work."""
        self.holds, self.loose, self.failed = Holds.ANYTHING, True, True

    def part(self, start: int, end: int) -> "Value":
        """Return the value in a part of its range, with bytes of its own."""
        part = Value(
            self.seq, self.holds, self.since, data=self.bytes(start, end), at=start,
            loose=self.loose,
        )  # fmt: skip
        part.finish = self.finish
        return part

    def bytes(self, start: int, end: int) -> bytes:
        """Return the value's bytes in a range of the disk. It is DATA or ZEROES."""
        if self.data is None:
            return bytes(end - start)
        return bytes(self.data[start - self.at : end - self.at])
