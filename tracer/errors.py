"""Exceptions and exit codes. An exception's class says what survives it.

Exit codes suit ``git bisect run``: 0 good, 1 to 124 bad, 125 skip, 128 and above stop the bisection.
Ours start at 200, clear of the shell's 128 + signal number.
"""

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of ``trace``."""

    CLEAN = 0
    BAD_DRIVER = 1
    DIFFERENT = 1  # what diff(1) and cmp(1) say as well; where one side is known to be good: bad
    UNDECIDABLE = 125
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it
    USAGE = 200
    BAD_TRACE = 201
    STORAGE = 202
    BUG = 210


class BlkboxError(Exception):
    """Anything that blkbox reports in one line. The command ends with ``exit_code``."""

    exit_code: Exit = Exit.BUG


class UsageError(BlkboxError):
    """The command line asks for something that cannot be done. Nothing was touched."""

    exit_code = Exit.USAGE


class TraceError(BlkboxError):
    """A trace or its payloads cannot be read. The file is left as it is."""

    exit_code = Exit.BAD_TRACE


class StorageError(BlkboxError):
    """Our own disk failed or is full. The run ends; what was recorded before reads back."""

    exit_code = Exit.STORAGE


class Undecidable(BlkboxError):
    """Nothing can be said about the driver: it did not build, start or serve, or cannot take this
    trace. The trace and other builds are unaffected."""

    exit_code = Exit.UNDECIDABLE


class DriverError(Undecidable):
    """A driver that does not create, start or serve its image.

    ``log`` is the tail of what it wrote to stderr.
    """

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class DriverHung(BlkboxError):
    """A driver under test stopped answering. The trace survives; this run of the driver does not."""

    exit_code = Exit.BAD_DRIVER


class NbdError(BlkboxError):
    """An NBD connection is of no more use. Other connections and the run survive."""

    exit_code = Exit.UNDECIDABLE


class Unreachable(NbdError):
    """Nobody listens at an NBD address. It may be worth trying again."""
