"""Foreign files, read a piece at a time. Every error says where in the file it is."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from tracer import text
from tracer.closing import Closing
from tracer.errors import TraceError
from tracer.files import open_file

MAX_LINE = 1 << 16
"""The most bytes in a line. The longest lines of a known format are blkparse messages, of at most
128 bytes and a prefix (BLK_TN_MAX_MSG in linux/kernel/trace/blktrace.c). No text is longer."""

HEAD = 4096
"""Bytes at the start of a file by which a format is recognised."""

BOM = "\ufeff".encode()
"""What editors of some systems put at the start of a text."""

PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd",
          b"PK\x03\x04": "zip"}  # fmt: skip
"""The first bytes of compressed files, and the program that unpacks each."""

STEP = 1 << 16
"""Bytes of text between two reports of progress."""


class ForeignFile(Closing):
    """A foreign file. ``progress`` is called with the number of bytes of each read.

    Raises TraceError if the file cannot be opened.
    """

    def __init__(self, path: Path, progress: Callable[[int], None] = lambda more: None) -> None:
        self.path = path
        self.progress = progress
        self._file: BinaryIO
        try:
            self._file = os.fdopen(open_file(path), "rb")
        except OSError as error:
            raise TraceError(f"cannot open {path}: {error.strerror}") from error
        try:
            self.size = self._file.seek(0, os.SEEK_END)  # a log may be on a block device
            self._file.seek(0)
        except OSError as error:
            self.close()
            raise TraceError(f"cannot open {path}: {error.strerror}") from error

    def where(self) -> str:
        """Return the place that was read last, for messages."""
        raise NotImplementedError

    def error(self, problem: str) -> TraceError:
        """Return an error about the place that was read last."""
        return TraceError(f"{self.path}: {self.where()}: {problem}")

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._file.close()


class TextFile(ForeignFile):
    """A text file, line by line. ``number`` is the number of the last line yielded, from 1."""

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
                raise self.error("it contains a NUL: this is not a text file")
            unreported += len(raw)
            if unreported >= STEP:
                self.progress(unreported)
                unreported = 0
            if self.number == 1:
                raw = raw.removeprefix(BOM)
            yield raw.decode(errors="replace").rstrip("\r\n")
        self.progress(unreported)

    def rows(self, title: str | None, row: re.Pattern[str], form: str) -> Iterator[tuple[str, ...]]:
        """Yield the groups of ``row`` in each line.

        Empty lines are skipped, and the first line if it begins with the ``title`` that the format
        may have. Raises TraceError
        if another line does not match; ``form`` says what it should be.
        """
        for line in self:
            match = row.fullmatch(line)
            if match is not None:
                yield match.groups()
            elif line.strip() and not (self.number == 1 and title and line.startswith(title)):
                raise self.error(f"not a line of the form {form}")

    def integer(self, word: str, what: str) -> int:
        """Return a decimal number of at most 64 bits. Raises TraceError if it is not ``what``."""
        # int() takes signs, underscores and other scripts' digits; 20 digits are 64 bits
        if not (word.isascii() and word.isdigit()) or len(word) > 20:
            raise self.error(f"{text.printable(word)!r} is not {what}")
        return int(word)


def titled(head: bytes, title: str | None, row: re.Pattern[str]) -> bool:
    """Return whether ``TextFile.rows`` accepts the first line of a file."""
    first = head.decode(errors="replace").partition("\n")[0].rstrip("\r")
    return (title is not None and first.startswith(title)) or row.fullmatch(first) is not None


class BinaryFile(ForeignFile):
    """A binary file, read from front to back. ``at`` is the position of the next byte."""

    def __init__(self, path: Path, progress: Callable[[int], None] = lambda more: None) -> None:
        super().__init__(path, progress)
        self.at = 0
        self.record = 0
        """Where the current record begins. The reader of a format sets it."""

    def where(self) -> str:
        return f"byte {self.record}"

    @property
    def rest(self) -> int:
        """How many bytes are left."""
        return self.size - self.at

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes. Raises TraceError if the file ends before."""
        self._need(count)
        data = self._file.read(count)
        if len(data) != count:  # another program cut the file short meanwhile
            self.size = self.at + len(data)
            self._need(count)
        self.at += count
        self.progress(count)
        return data

    def skip(self, count: int) -> None:
        """Skip ``count`` bytes. Raises TraceError if the file ends before."""
        self._need(count)
        self._file.seek(count, os.SEEK_CUR)
        self.at += count
        self.progress(count)

    def _need(self, count: int) -> None:
        if count > self.rest:
            raise self.error(
                f"the file is cut off: {count} bytes should follow byte {self.at}, {self.rest} do"
            )
