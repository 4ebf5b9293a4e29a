"""Lower ops: one operation of a driver on its own image file. No I/O."""

from dataclasses import dataclass
from enum import IntEnum

from tracer.op import NO_PAYLOAD, NO_TIME, ZERO_DIGEST
from tracer.text import many


class LowerKind(IntEnum):
    """What a lower op does. Numbers as those of guest ops (``tracer.op.Kind``); TRUNCATE has no
    guest op like it."""

    WRITE = 1
    FLUSH = 3
    DISCARD = 4
    ZERO = 6
    TRUNCATE = 65

    @property
    def label(self) -> str:
        """The kind's name in reports and JSON."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class LowerOp:
    """One operation on the image file.

    ``offset`` and ``length`` are bytes of the file; a TRUNCATE's ``length`` is the file's new size.
    ``digest`` covers what was written. ``error`` is an errno value, 0 for success. ``time`` is when
    it was done, in ns on the clock of the guest's ops; NO_TIME: the log does not say. While a run
    goes on, its data is in the log, in front of byte ``log_end``. In a NAME.lower, ``payload`` is
    its position in the payload store; NO_PAYLOAD: it wrote zeroes or nothing, or was not stored.
    """

    number: int
    kind: LowerKind
    offset: int
    length: int
    fua: bool = False
    digest: bytes = ZERO_DIGEST
    error: int = 0
    log_at: int = 0
    log_end: int = 0
    payload: int = NO_PAYLOAD
    time: int = NO_TIME

    @property
    def end(self) -> int:
        """The byte after the op's last byte."""
        return self.offset + self.length

    @property
    def data_at(self) -> int:
        """Where the data begins in the log, in bytes."""
        return self.log_end - self.length

    def describe(self) -> str:
        """Return the op in a line: ``lower op 12, write 4096 B at byte 65536``."""
        text = f"lower op {self.number}, {self.kind.label}"
        if self.kind is LowerKind.TRUNCATE:
            text += f" to {many(self.length, 'byte')}"
        elif self.kind is not LowerKind.FLUSH:
            text += f" {self.length} B at byte {self.offset}"
        return text + (" FUA" if self.fua else "")
