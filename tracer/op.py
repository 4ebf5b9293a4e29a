"""The vocabulary: what one block request is. No I/O here.

Kinds and flags have the numbers of the NBD protocol (https://github.com/NetworkBlockDevice/nbd,
doc/proto.md, "Command flags" and "Request types"), so that none needs translating on the data path.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag

SECTOR = 512
"""Bytes in a sector, always; reports count in sectors as blkverify does, code counts in bytes."""

NO_PAYLOAD = (1 << 64) - 1
"""The payload position of an op whose bytes are not in the payload store."""

ZERO_DIGEST = bytes(16)
"""The digest that stands for a payload of zeroes, of any length."""

NO_TIME = (1 << 64) - 1
"""The completion time of an op that never completed."""


class Kind(IntEnum):
    """What an op does. All but START are NBD commands; START is a piece of the start image."""

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
        return self.name.lower()


KIND_BY_NUMBER = {int(kind): kind for kind in Kind}

MUTATING = frozenset({int(Kind.WRITE), int(Kind.TRIM), int(Kind.ZERO), int(Kind.START)})
"""Kinds that change data."""

CARRIES_DATA = frozenset({int(Kind.WRITE), int(Kind.START)})
"""Kinds whose request carries a payload."""


class Flag(IntFlag):
    """NBD command flags. DF and REQ_ONE shape a reply and never reach the driver from a guest."""

    FUA = 1 << 0
    NO_HOLE = 1 << 1
    DF = 1 << 2
    REQ_ONE = 1 << 3
    FAST_ZERO = 1 << 4


def flag_names(flags: int) -> list[str]:
    """The names of the flags that are set, lowest bit first."""
    return [flag.name or "" for flag in Flag if flags & flag]


@dataclass(slots=True)
class Op:
    """One block request.

    ``offset`` and ``length`` are bytes; times are ns since the trace's start; ``reference_ns`` and
    ``test_ns`` are how long each side took; statuses are errno values, 0 for success; ``payload`` is
    a position in the payload store. ``digest`` is that of the bytes written, or of the bytes that the
    reference returned for a read.
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
        """The byte after the last one."""
        return self.offset + self.length

    def describe(self) -> str:
        """``#12 write 4096 B at sector 8 (8 sectors) FUA``."""
        text = f"#{self.seq} {KIND_BY_NUMBER[self.kind].label}"
        if self.kind != Kind.FLUSH:
            first, last = self.offset // SECTOR, -(-self.end // SECTOR)
            text += f" {self.length} B at sector {first} ({last - first} sectors)"
        return " ".join([text, *flag_names(self.flags)])
