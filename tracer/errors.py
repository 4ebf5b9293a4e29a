"""Exceptions and exit codes. The docstring of an exception says what survives it.

The exit codes suit ``git bisect run``: 0 is good, 1 to 124 bad, 125 skips, and 128 and above stop
the bisection. Errors of the command itself start at 200, above the shell's 128 + signal number.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of ``trace``."""

    CLEAN = 0
    BAD_DRIVER = 1
    DIFFERENT = 1  # as in diff(1) and cmp(1); if one side is known to be good, it means bad
    UNDECIDABLE = 125
    INTERRUPTED = 130  # 128 + SIGINT, as in a shell
    USAGE = 200
    BAD_TRACE = 201
    STORAGE = 202
    BUG = 210


class BlkboxError(Exception):
    """The base of all errors that blkbox reports in one line. ``exit_code`` ends the command."""

    exit_code: Exit = Exit.BUG


class UsageError(BlkboxError):
    """The command line asks for something impossible. Nothing was touched."""

    exit_code = Exit.USAGE


class TraceError(BlkboxError):
    """A trace or its payloads cannot be read. The file is untouched."""

    exit_code = Exit.BAD_TRACE


class StorageError(BlkboxError):
    """The host's disk failed or is full. The run ends. Earlier records stay readable."""

    exit_code = Exit.STORAGE


@contextmanager
def only_our_errors() -> Iterator[None]:
    """Turn an OSError into a StorageError that names its file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"{error.filename}: {reason}" if error.filename else reason) from error


class Undecidable(BlkboxError):
    """The driver cannot be judged: it did not build, start or serve, or it cannot take this trace.
    The trace and other builds are unaffected."""

    exit_code = Exit.UNDECIDABLE


class DriverError(Undecidable):
    """A driver did not create its image, start, or serve the image.

    ``log`` is the tail of the driver's stderr.
    """

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class DriverHung(BlkboxError):
    """The driver stopped answering. This run is lost; the trace survives."""

    exit_code = Exit.BAD_DRIVER


class NbdError(BlkboxError):
    """An NBD connection is unusable. Other connections and the run survive."""

    exit_code = Exit.UNDECIDABLE


class TlsError(NbdError):
    """A connection's TLS failed: the peer is not who it should be, or does not want us."""


class Unreachable(NbdError):
    """Nothing listens at an NBD address. A retry may succeed."""
