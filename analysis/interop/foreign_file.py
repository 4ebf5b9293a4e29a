"""Foreign files, read a piece at a time: every error says where in the file it is."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from tracer import text
from tracer.closing import Closing
from tracer.errors import TraceError

MAX_LINE = 1 << 16
"""Bytes in a line. The longest of a known format is a blkparse message, of at most 128 bytes and a
prefix (linux/kernel/trace/blktrace.c, BLK_TN_MAX_MSG); more than this is no text."""

HEAD = 4096
"""Bytes by which a format is recognised."""

STEP = 1 << 16
"""Bytes of text that are read between two reports of progress."""


class ForeignFile(Closing):
    """A foreign file. ``progress`` gets the numbers of bytes that are read."""

    def __init__(self, path: Path, progress: Callable[[int], None] = lambda more: None) -> None:
        self.path = path
        self.progress = progress
        self._file: BinaryIO
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise TraceError(f"cannot open {path}: {error.strerror}") from error
        try:
            self.size = self._file.seek(0, os.SEEK_END)  # a log may be on a block device
            self._file.seek(0)
        except OSError as error:
            self.close()
            raise TraceError(f"cannot open {path}: {error.strerror}") from error

    def where(self) -> str:
        """The place that was read last, for people."""
        raise NotImplementedError

    def error(self, problem: str) -> TraceError:
        """What is wrong at the place that was read last."""
        return TraceError(f"{self.path}: {self.where()}: {problem}")

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._file.close()


class TextFile(ForeignFile):
    """A text file, line by line. ``number`` is that of the line given last, from 1."""

    def __init__(self, path: Path, progress: Callable[[int], None] = lambda more: None) -> None:
        super().__init__(path, progress)
        self.number = 0

    def where(self) -> str:
        return f"line {self.number}"

    def __iter__(self) -> Iterator[str]:
        unreported = 0
        while raw := self._file.readline(MAX_LINE):
            self.number += 1
            if len(raw) == MAX_LINE:
                raise self.error(f"it has more than {MAX_LINE} bytes")
            if b"\0" in raw:
                raise self.error("it holds a NUL: this is no text")
            unreported += len(raw)
            if unreported >= STEP:
                self.progress(unreported)
                unreported = 0
            yield raw.decode(errors="replace").rstrip("\r\n")
        self.progress(unreported)

    def rows(self, title: str, row: re.Pattern[str], what: str) -> Iterator[tuple[str, ...]]:
        """The groups of ``row`` in each line but empty ones, and a first one that begins with ``title``.
        Raises TraceError, which says that there is no ``what``."""
        for line in self:
            match = row.fullmatch(line)
            if match is not None:
                yield match.groups()
            elif line.strip() and not (self.number == 1 and line.startswith(title)):
                raise self.error(f"no {what}")

    def integer(self, word: str, what: str) -> int:
        """A decimal number of at most 64 bits. Raises TraceError."""
        # int() takes signs, underscores and other scripts' digits; 20 digits are 64 bits
        if not (word.isascii() and word.isdigit()) or len(word) > 20:
            raise self.error(f"{text.printable(word)!r} is no {what}")
        return int(word)


def titled(head: bytes, title: str, row: re.Pattern[str]) -> bool:
    """Whether the first line of a file is what ``TextFile.rows`` takes."""
    first = head.decode(errors="replace").partition("\n")[0].rstrip("\r")
    return first.startswith(title) or row.fullmatch(first) is not None


class BinaryFile(ForeignFile):
    """A binary file, front to back. ``at`` is the next byte."""

    def __init__(self, path: Path, progress: Callable[[int], None] = lambda more: None) -> None:
        super().__init__(path, progress)
        self.at = 0
        self.record = 0
        """Where the record begins that is being read."""

    def where(self) -> str:
        return f"byte {self.record}"

    @property
    def rest(self) -> int:
        """How many bytes are left."""
        return self.size - self.at

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes. Raises TraceError where the file ends before."""
        self._need(count)
        data = self._file.read(count)
        if len(data) != count:  # someone cut the file short meanwhile
            self.size = self.at + len(data)
            self._need(count)
        self.at += count
        self.progress(count)
        return data

    def skip(self, count: int) -> None:
        """Pass over ``count`` bytes. Raises TraceError where the file ends before."""
        self._need(count)
        self._file.seek(count, os.SEEK_CUR)
        self.at += count
        self.progress(count)

    def _need(self, count: int) -> None:
        if count > self.rest:
            raise self.error(
                f"the file is cut off: {count} bytes should follow byte {self.at}, {self.rest} do"
            )
