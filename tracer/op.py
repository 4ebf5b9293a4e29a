"""Ops: what a block request is, what it does to the disk, and which requests conflict.

This module does no I/O. Kinds and flags have the numbers of the NBD protocol ("Request types" and
"Command flags" in doc/proto.md of https://github.com/NetworkBlockDevice/nbd), so that the data path
translates nothing.
"""

import errno
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum, IntFlag, StrEnum, auto

from tracer.text import many

SECTOR = 512
"""Bytes in a sector. Reports count sectors, as blkverify does. Code counts bytes."""

NO_PAYLOAD = (1 << 64) - 1
"""The payload position of an op without bytes in the payload store."""

NO_SEQ = (1 << 64) - 1
"""In place of the seq of an op whose value a range holds: it holds what was there before."""

ZERO_DIGEST = bytes(16)
"""The digest of a payload of zeroes, of any length."""

NO_TIME = (1 << 64) - 1
"""The completion time of an op that never completed."""

Buffer = bytes | bytearray | memoryview
"""The bytes that an op writes."""

Extents = list[tuple[int, int]]
"""Block status: (length in bytes, base:allocation flags), in the order of the disk."""


class Kind(IntEnum):
    """What an op does. All are NBD commands except START, which is a piece of the start image."""

    READ = 0
    WRITE = 1
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    ZERO = 6
    BLOCK_STATUS = 7
    START = 64

    @property
    def label(self) -> str:
        """The kind's name in reports and JSON: ``block_status``."""
        return self.name.lower()


KIND_BY_NUMBER = {int(kind): kind for kind in Kind}

MUTATING = frozenset({int(Kind.WRITE), int(Kind.TRIM), int(Kind.ZERO), int(Kind.START)})
"""Kinds that may change data."""

CARRIES_DATA = frozenset({int(Kind.WRITE), int(Kind.START)})
"""Kinds whose request carries a payload."""


class Flag(IntFlag):
    """NBD command flags. A guest's DF and REQ_ONE shape its reply and never reach the driver."""

    FUA = 1 << 0
    NO_HOLE = 1 << 1
    DF = 1 << 2
    REQ_ONE = 1 << 3
    FAST_ZERO = 1 << 4


FAST_ZERO = int(Flag.FAST_ZERO)
"""The flag as an int, for the data path: the operators of IntFlag are slow."""


FLAGS_OF = {
    int(kind): int(Flag.FUA | Flag.NO_HOLE | Flag.FAST_ZERO if kind is Kind.ZERO else Flag.FUA)
    for kind in Kind
}
"""The flags that an op of each kind may have."""


def flag_names(flags: int) -> list[str]:
    """Return the names of the flags that are set, lowest bit first."""
    return [flag.name or "" for flag in Flag if flags & flag]


def sectors(start: int, end: int) -> range:
    """Return the numbers of the sectors that the bytes ``[start, end)`` touch."""
    return range(start // SECTOR, -(-end // SECTOR))


@dataclass(slots=True)
class Op:
    """One block request.

    ``offset`` and ``length`` are bytes. Times are ns since the trace's start. ``reference_ns`` and
    ``test_ns`` are the ns that each side took. Statuses are errno values, 0 for success.
    ``payload`` is a position in the payload store. ``digest`` covers the bytes written, or the
    bytes that the reference returned for a read.
    """

    seq: int
    kind: int
    flags: int = 0
    offset: int = 0
    length: int = 0
    submitted: int = 0
    completed: int = NO_TIME
    reference_ns: int = 0
    test_ns: int = 0
    reference_status: int = 0
    test_status: int = 0
    connection: int = 0
    payload: int = NO_PAYLOAD
    digest: bytes = ZERO_DIGEST

    @property
    def end(self) -> int:
        """The byte after the op's last byte."""
        return self.offset + self.length

    @property
    def sectors(self) -> range:
        """The numbers of the sectors that the op touches."""
        return sectors(self.offset, self.offset + self.length)

    @property
    def refused(self) -> bool:
        """Whether this is a fast zero that the driver refused because it cannot zero fast.

        Such an op did nothing: for a fast zero, ENOTSUP means "not fast" ("NBD_CMD_WRITE_ZEROES" in
        proto.md).
        """
        return bool(self.flags & FAST_ZERO) and self.test_status == errno.ENOTSUP

    def describe(self) -> str:
        """Return the op in a line: ``#12 write 4096 B at sector 8 (8 sectors) FUA``."""
        text = f"#{self.seq} {KIND_BY_NUMBER[self.kind].label}"
        if self.kind != Kind.FLUSH:
            count = many(len(self.sectors), "sector")
            text += f" {self.length} B at sector {self.sectors.start} ({count})"
        return " ".join([text, *flag_names(self.flags)])


# ---------------------------------------------------------------- what an op does to the disk


class TrimRule(StrEnum):
    """What trimmed bytes may read as until they are rewritten."""

    ANY = "any"
    """Anything (NBD_CMD_TRIM in proto.md)."""
    OLD_OR_ZERO = "old-or-zero"
    """Each byte reads as its old value or as zero."""


class Conflicts(StrEnum):
    """What a recording did with an op that conflicts with ops in flight."""

    HELD = "held"
    """It waited for them, though its times look as if it had not."""
    SENT = "sent"
    """It went to the driver at once."""


class OnConflict(StrEnum):
    """What to do with an op that conflicts with ops in flight."""

    HOLD = "hold"
    SEND = "send"


class Leaves(Enum):
    """What the reference image holds in an op's range afterwards."""

    OLD = auto()
    DATA = auto()
    """The op's payload."""
    ZEROES = auto()


class Promise(Enum):
    """What the test image may hold in an op's range afterwards."""

    KEPT = auto()
    """Whatever it might hold before the op."""
    EQUAL = auto()
    """Only what the reference holds."""
    TRIMMED = auto()
    """Whatever the trim rule allows."""
    UNKNOWN = auto()
    """Anything: the op failed, perhaps after a part of its work."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What an op does to its range of both images."""

    leaves: Leaves
    promise: Promise


NO_EFFECT = Effect(Leaves.OLD, Promise.KEPT)

_EFFECTS = {
    (int(kind), rule): Effect(leaves, promise)
    for rule in TrimRule
    for kind, leaves, promise in (
        (Kind.WRITE, Leaves.DATA, Promise.EQUAL),
        (Kind.START, Leaves.DATA, Promise.EQUAL),
        (Kind.ZERO, Leaves.ZEROES, Promise.EQUAL),
        # under old-or-zero the reference keeps the old bytes, so that they are not taken for damage
        (Kind.TRIM, Leaves.ZEROES if rule is TrimRule.ANY else Leaves.OLD, Promise.TRIMMED),
    )
}
"""The effect of each kind that may change data, if both sides succeed."""


def effect(op: Op, trim_rule: TrimRule) -> Effect:
    """Return what an op did to the disk.

    A payload of zeroes leaves zeroes. Only ``leaves`` depends on the op's digest. An op that failed
    on the reference changed nothing there.
    """
    if op.kind not in MUTATING or op.refused:
        return NO_EFFECT
    kind = Kind.ZERO if op.kind in CARRIES_DATA and op.digest == ZERO_DIGEST else op.kind
    done = _EFFECTS[kind, trim_rule]
    if op.test_status or op.reference_status:
        return Effect(Leaves.OLD if op.reference_status else done.leaves, Promise.UNKNOWN)
    return done


def changing_kinds(trim_rule: TrimRule) -> frozenset[Kind]:
    """Return the kinds of op that change the reference image if they succeed."""
    return frozenset(
        kind for kind in Kind if effect(Op(0, int(kind)), trim_rule).leaves is not Leaves.OLD
    )


def conflicting(op: Op, others: Iterable[Op]) -> Iterator[Op]:
    """Yield each op of ``others`` that conflicts with ``op``: the two overlap, and at least one of
    them may change data."""
    start, end, changes = op.offset, op.offset + op.length, op.kind in MUTATING
    for other in others:
        if (
            other.offset < end
            and start < other.offset + other.length
            and (changes or other.kind in MUTATING)
        ):
            yield other


def conflicts(op: Op, other: Op) -> bool:
    """Whether two ops overlap and at least one of them may change data."""
    return any(True for _ in conflicting(op, (other,)))


class Fault(IntEnum):
    """How the two sides differ. A trace's mismatch records have these numbers."""

    DATA = 1
    """A read returned different bytes."""
    STATUS = 2
    """One side failed and the other succeeded."""
    BLOCK_STATUS = 3
    """The test side calls data a hole."""
    FINAL = 4
    """The images differ after the run."""
    LOST = 5
    """The connection to the driver was lost."""

    @property
    def label(self) -> str:
        return self.name.lower()
