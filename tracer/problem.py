"""An error of the command, as ``--json`` prints it. docs/error.schema.json is generated from here
(see ``verdict_schema``)."""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from tracer.errors import Exit

SCHEMA = 1
"""The version of the JSON."""


class Code(StrEnum):
    """The kind of an error, one for each exit code that is not a verdict's."""

    USAGE = "usage"
    BAD_TRACE = "bad-trace"
    STORAGE = "storage"
    UNDECIDABLE = "undecidable"
    BAD_DRIVER = "bad-driver"
    INTERRUPTED = "interrupted"
    BUG = "bug"


class Problem(Struct, frozen=True, kw_only=True):
    """What went wrong."""

    code: Code
    exit: Annotated[int, Meta(ge=0, le=255)]
    """The exit code of the command."""
    message: str
    """One line for people."""
    hint: str | None = None
    """What to do, if the message does not say it."""
    log: str = ""
    """The tail of the driver's stderr, or the traceback of a bug in blkbox."""


class Failure(Struct, frozen=True, kw_only=True):
    """What a verb prints with ``--json`` if it ends with an error."""

    error: Problem
    schema: int = SCHEMA


def code_of(number: int) -> Code:
    """Return the kind of error that an exit code stands for."""
    return _CODES.get(number, Code.INTERRUPTED)  # 128 + the number of any signal


_CODES: dict[int, Code] = {
    Exit.USAGE: Code.USAGE,
    Exit.BAD_TRACE: Code.BAD_TRACE,
    Exit.STORAGE: Code.STORAGE,
    Exit.UNDECIDABLE: Code.UNDECIDABLE,
    Exit.BAD_DRIVER: Code.BAD_DRIVER,
    Exit.BUG: Code.BUG,
}
