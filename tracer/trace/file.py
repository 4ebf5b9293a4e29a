"""The trace file: writer and reader, side by side."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import msgpack

from tracer.closing import Closing
from tracer.errors import StorageError, TraceError
from tracer.op import Op
from tracer.trace.header import MAX_HEADER, Header, _parse_header
from tracer.trace.records import (
    _UNPACK,
    RECORD_SIZE,
    End,
    Mark,
    Mismatch,
    Record,
    Tag,
    _pack_end,
    _pack_mark,
    _pack_mismatch,
)

SUFFIX = ".trace"

BLOCK = 4096
"""Records that are read at once: 432 KiB."""


class TraceWriter:
    """Appends records. What ``write`` returned from is in the file, though not yet on the disk."""

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self.id = header.id
        self._size = 0
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error
        try:
            self._write(msgpack.packb(asdict(header)))
        except BaseException:
            self.abandon()
            raise

    def write(self, records: list[bytes]) -> None:
        """Append packed records in one system call. Raises StorageError."""
        self._write(b"".join(records))

    def sync(self) -> None:
        """Wait until all that was written is on the disk. Raises StorageError."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise StorageError(f"cannot write {self.path}: {error.strerror}") from error

    def mismatch(self, mismatch: Mismatch) -> None:
        """Append a mismatch."""
        self._write(_pack_mismatch(mismatch))

    def mark(self, mark: Mark) -> None:
        """Append a mark."""
        self._write(_pack_mark(mark))

    def close(self, end: End) -> None:
        """Append the end record and close the file."""
        try:
            self._write(_pack_end(end))
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the file as it is: readers will find it not closed. A second time does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, data: bytes) -> None:
        try:
            written = os.write(self._fd, data)
            while written < len(data):
                written += os.write(self._fd, memoryview(data)[written:])
            self._size += written
        except OSError as error:
            with suppress(
                OSError
            ):  # a piece of a record may not stay where a later one would follow it
                os.ftruncate(self._fd, self._size)
                os.lseek(self._fd, self._size, os.SEEK_SET)
            raise StorageError(f"cannot write {self.path}: {error.strerror}") from error


class Trace(Closing):
    """A trace opened for reading. Iterating over ``records()`` takes memory for one record at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.file_size = os.fstat(self._fd).st_size
            self.header, self.records_at = _parse_header(path, os.pread(self._fd, MAX_HEADER, 0))
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise TraceError(f"cannot open {path}: {error.strerror}") from error
            raise
        self.count = (self.file_size - self.records_at) // RECORD_SIZE
        """Whole records in the file, of every kind."""
        self.torn_bytes = (self.file_size - self.records_at) % RECORD_SIZE
        """Bytes after the last whole record."""

    @property
    def end(self) -> End | None:
        """The end record; None where the trace was not closed."""
        if not self.count:
            return None
        at = self.records_at + (self.count - 1) * RECORD_SIZE
        last = os.pread(self._fd, RECORD_SIZE, at)
        record = self._unpack(last, 0, at) if last[1] == Tag.END else None
        return record if isinstance(record, End) else None

    def records(self) -> Iterator[Record]:
        """Every whole record, in the order of the file: ops as they completed. Raises TraceError at
        the first that is no record."""
        for at, block in self._blocks():
            for inner in range(0, len(block), RECORD_SIZE):
                yield self._unpack(block, inner, at + inner)

    def ops(self) -> Iterator[Op]:
        """Every op, in the order in which they completed. Raises TraceError."""
        for record in self.records():
            if isinstance(record, Op):
                yield record

    def mismatches(self) -> list[Mismatch]:
        """What differed while recording."""
        return [record for record in self._select(Tag.MISMATCH) if isinstance(record, Mismatch)]

    def marks(self) -> list[Mark]:
        """The named moments."""
        return [record for record in self._select(Tag.MARK) if isinstance(record, Mark)]

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, first: int, count: int) -> bytes:
        """Up to ``count`` whole records of any kind, as they are in the file, from the ``first`` on."""
        at = self.records_at + first * RECORD_SIZE
        block = os.pread(self._fd, min(count, self.count - first) * RECORD_SIZE, at)
        return block[: len(block) // RECORD_SIZE * RECORD_SIZE]

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        """The records, BLOCK at a time: ``(byte offset, bytes)``. Read, not mapped: a mapped file that
        someone cuts short ends the process, and all of one that is read through stays in memory."""
        for first in range(0, self.count, BLOCK):
            yield self.records_at + first * RECORD_SIZE, self.read(first, BLOCK)

    def _select(self, tag: Tag) -> Iterator[Record]:
        for at, block in self._blocks():
            inner = block[1::RECORD_SIZE].find(tag)
            while inner >= 0:
                yield self._unpack(block, inner * RECORD_SIZE, at + inner * RECORD_SIZE)
                inner = block[1::RECORD_SIZE].find(tag, inner + 1)

    def _unpack(self, block: bytes, inner: int, at: int) -> Record:
        """The record at ``inner`` in a block, at byte ``at`` of the file, checked."""
        unpack = _UNPACK.get(block[inner + 1])
        if unpack is not None:
            record = unpack(block, inner, self.header.size)
            if record is not None:
                return record
        raise TraceError(f"{self.path}: no record where one should be, at byte {at}")
