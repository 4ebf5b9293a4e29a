"""What a command prints. Its verdict does not depend on whether somebody reads it."""

import errno
import io
import os
import sys
from contextlib import suppress
from typing import TextIO

from tracer.errors import Exit
from tracer.text import printable_lines


class _Lossy(io.FileIO):
    """A descriptor whose write errors are ignored. For stderr: if nobody can read a message, the
    work goes on all the same."""

    def write(self, data: object) -> int:
        with suppress(OSError):
            return super().write(data)  # type: ignore[arg-type]
        return memoryview(data).nbytes  # type: ignore[arg-type]


def prepare() -> None:
    """Set up the standard streams of the process.

    A closed descriptor 0 to 2 becomes /dev/null. Otherwise the next file that we open gets its
    number, and the output of a guest would go into that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
            os.set_inheritable(number, True)
    # a name that is not in the terminal's encoding must not stop the output
    sys.stdout = _stream(io.FileIO(1, "w", closefd=False), sys.stdout)
    sys.stderr = _stream(_Lossy(2, "w", closefd=False), sys.stderr)


def _stream(raw: io.FileIO, before: TextIO | None) -> TextIO:
    """Return a text stream in the encoding of the one before."""
    encoding = before.encoding if before is not None else "utf-8"
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=True,
    )


def deliver(text: str, code: int) -> int:
    """Print what a command has to show; return its exit code.

    That is ``code`` even if nobody reads the output: a closed pipe says nothing of the driver. But
    if the output is lost because a disk is full or failed, it is Exit.STORAGE.
    """
    if not text:
        return code
    try:
        sys.stdout.write(printable_lines(text))
        sys.stdout.flush()
    except BaseException as error:
        _drop()
        if not isinstance(error, OSError):
            raise
        if error.errno in (errno.EPIPE, errno.ECONNRESET, errno.EBADF):
            return code
        print(f"trace: cannot write the output: {error.strerror}", file=sys.stderr)
        return Exit.STORAGE
    return code


def at_once(text: str) -> None:
    """Print a line now, whatever the exit code will be. Who does not read it changes nothing."""
    with suppress(OSError):
        os.write(1, f"{printable_lines(text)}\n".encode())


def _drop() -> None:
    """Drop what stdout still holds. Python would try to write it at exit, fail, and exit with
    120."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
