"""The trace file, a header and then records: its writer and its reader.

Neither knows the payload store: see tracer/trace/output.py for writing both, tracer/trace/data.py
for reading both.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import msgpack

from tracer.closing import Closing
from tracer.errors import StorageError, TraceError
from tracer.files import PRIVATE, open_file
from tracer.op import Op
from tracer.trace.header import MAX_HEADER, Header, parse_header
from tracer.trace.records import (
    RECORD_SIZE,
    End,
    Mark,
    Mismatch,
    Record,
    Restart,
    Settle,
    Tag,
    pack_end,
    pack_mark,
    pack_mismatch,
    pack_restart,
    pack_settle,
    unpack,
)
from tracer.trace.valid import MAX_MISSING, Order, reason

SUFFIX = ".trace"

BLOCK = 4096
"""Records in one read: 432 KiB."""


_SEQ = struct.Struct(f">xBxQ{RECORD_SIZE - 11}x")
"""A record's tag, and an op's seq."""


class TraceWriter:
    """Creates a trace file and appends records to it.

    When a method returns, its record is in the file: it survives us, but perhaps not a power cut.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self.id = header.id
        self._size = 0
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE)
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
        """Wait until everything that was written is on the disk. Raises StorageError."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise StorageError(f"cannot write {self.path}: {error.strerror}") from error

    def mismatch(self, mismatch: Mismatch) -> None:
        """Append a mismatch. Raises StorageError."""
        self._write(pack_mismatch(mismatch))

    def mark(self, mark: Mark) -> None:
        """Append a mark. Raises StorageError."""
        self._write(pack_mark(mark))

    def settle(self, settle: Settle) -> None:
        """Append a settle. Raises StorageError."""
        self._write(pack_settle(settle))

    def restart(self, restart: Restart) -> None:
        """Append a restart. Raises StorageError."""
        self._write(pack_restart(restart))

    def close(self, end: End) -> None:
        """Append the end record and close the file, even after an error. Raises StorageError."""
        try:
            self._write(pack_end(end))
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the file without an end record. Does nothing if the file is closed already."""
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
            # remove a partial record, so that a later one does not follow it
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)
                os.lseek(self._fd, self._size, os.SEEK_SET)
            raise StorageError(f"cannot write {self.path}: {error.strerror}") from error


class Trace(Closing):
    """A trace file opened for reading. Reading takes memory for BLOCK records, however long the
    trace.

    Raises TraceError if the file cannot be opened or is not a trace.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        try:
            self._fd = open_file(path)
            self.file_size = os.fstat(self._fd).st_size
            self.header, self.records_at = parse_header(path, os.pread(self._fd, MAX_HEADER, 0))
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise TraceError(f"cannot open {path}: {error.strerror}") from error
            raise
        self.count = (self.file_size - self.records_at) // RECORD_SIZE
        """Whole records in the file, of all kinds."""
        self.torn_bytes = (self.file_size - self.records_at) % RECORD_SIZE
        """Bytes after the last whole record."""

    @property
    def end(self) -> End | None:
        """The end record; None if the trace was not closed."""
        if not self.count:
            return None
        at = self.records_at + (self.count - 1) * RECORD_SIZE
        last = os.pread(self._fd, RECORD_SIZE, at)
        record = self._unpack(last, 0, at) if last[1] == Tag.END else None
        return record if isinstance(record, End) else None

    def records(self) -> Iterator[Record]:
        """Yield all whole records in the order of the file: ops in order of completion. Raises
        TraceError at the first record that is not valid, by itself or after those before it
        (tracer/trace/valid.py)."""
        check = Order().check
        for at, block in self._blocks():
            for inner in range(0, len(block), RECORD_SIZE):
                record = self._unpack(block, inner, at + inner)
                wrong = check(record)
                if wrong is not None:
                    raise self.invalid(at + inner, wrong)
                yield record

    def op(self, number: int) -> Op:
        """Return the op in record ``number``, counted from 0 in the order of the file. Raises
        TraceError if there is no valid op."""
        at = self.records_at + number * RECORD_SIZE
        packed = self.read(number, 1)
        record = self._unpack(packed, 0, at) if packed else None
        if not isinstance(record, Op):
            raise self.invalid(at, "it is not an op")
        return record

    def ops(self) -> Iterator[Op]:
        """Yield the ops in order of completion. Raises as ``records``."""
        for record in self.records():
            if isinstance(record, Op):
                yield record

    def mismatches(self) -> list[Mismatch]:
        """Return the differences found while recording. Raises TraceError."""
        return [record for record in self._select(Tag.MISMATCH) if isinstance(record, Mismatch)]

    def marks(self) -> list[Mark]:
        """Return the marks. Raises TraceError."""
        return [record for record in self._select(Tag.MARK) if isinstance(record, Mark)]

    def settles(self) -> list[Settle]:
        """Return what reads decided after conflicts. Raises TraceError."""
        return [record for record in self._select(Tag.SETTLE) if isinstance(record, Settle)]

    def restarts(self) -> list[Restart]:
        """Return the restarts of the driver. Raises TraceError."""
        return [record for record in self._select(Tag.RESTART) if isinstance(record, Restart)]

    def recorded(self) -> bytes:
        """Return, by seq, whether there is a record of that op: a byte for each seq that a valid
        trace of this length can have. Reads the whole file, but does not check it."""
        there = bytearray(self.count + MAX_MISSING + 1)
        for _, block in self._blocks():
            for tag, seq in _SEQ.iter_unpack(block):
                if tag == Tag.OP and seq < len(there):
                    there[seq] = 1
        return bytes(there)

    def invalid(self, at: int, wrong: str) -> TraceError:
        """Return the error for the record at byte ``at`` of the file, which is not valid."""
        number = (at - self.records_at) // RECORD_SIZE
        return TraceError(f"{self.path}: record {number}, at byte {at}, is not valid: {wrong}")

    def unpack(self, number: int, packed: bytes) -> Record:
        """Return the record ``number`` from its bytes. Raises TraceError if it is not valid."""
        return self._unpack(packed, 0, self.records_at + number * RECORD_SIZE)

    def close(self) -> None:
        """Close the file. Closing twice is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, first: int, count: int) -> bytes:
        """Return up to ``count`` packed records of all kinds, starting with number ``first``."""
        at = self.records_at + first * RECORD_SIZE
        block = os.pread(self._fd, min(count, self.count - first) * RECORD_SIZE, at)
        return block[: len(block) // RECORD_SIZE * RECORD_SIZE]

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        """Yield the packed records, BLOCK at a time, each with its byte offset in the file."""
        # read, not mapped: the process would die if someone truncated a mapped file, and all of the
        # file would stay in memory
        for first in range(0, self.count, BLOCK):
            yield self.records_at + first * RECORD_SIZE, self.read(first, BLOCK)

    def _select(self, tag: Tag) -> Iterator[Record]:
        for at, block in self._blocks():
            inner = block[1::RECORD_SIZE].find(tag)
            while inner >= 0:
                yield self._unpack(block, inner * RECORD_SIZE, at + inner * RECORD_SIZE)
                inner = block[1::RECORD_SIZE].find(tag, inner + 1)

    def _unpack(self, block: bytes, inner: int, at: int) -> Record:
        """Return the record at byte ``inner`` of a block, which is byte ``at`` of the file. Raises
        TraceError if it is not valid."""
        record = unpack(block, inner, self.header.size)
        if record is not None:
            return record
        raise self.invalid(at, reason(block, inner, self.header.size))
