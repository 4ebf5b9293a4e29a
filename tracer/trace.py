"""The trace file: a msgpack stream of a header map and fixed-width records. Reader and writer.

docs/trace-format.md is the specification. Every record is a msgpack array packed in the widest types,
so that all records have RECORD_SIZE bytes: any msgpack library reads the stream, and numpy views it as
one strided table (``OP_DTYPE`` in analysis/layout.py is the twin of ``_OP``).
"""

import os
import struct
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

import msgpack

from tracer import digest
from tracer.closing import Closing
from tracer.errors import StorageError, TraceError
from tracer.header import MAX_HEADER, parse_header
from tracer.op import KIND_BY_NUMBER, Fault, Flag, Op, TrimRule

FORMAT = "blkbox-trace"
VERSION = 1
SUFFIX = ".trace"

BLOCK = 4096
"""Records that are read at once: 432 KiB."""

MAX_SIZE = 1 << 62
"""Bytes in a disk: below what lseek can address, so that no offset in a trace overflows."""

MAX_LENGTH = {"data": 32 << 20, "other": (1 << 32) - 1}
"""Bytes in one op: 32 MiB where it carries data (NBD's limit), else what NBD's 32 bits can say."""


class Tag(IntEnum):
    """A record's kind: its first element."""

    OP = 1
    MARK = 2
    MISMATCH = 3
    END = 4


_OP = struct.Struct(">BB BQ BB BH BQ BQ BQ BQ BQ BQ BH BH BI BQ BB16s".replace(" ", ""))
"""array of 15; tag; then each field behind its msgpack type byte."""

RECORD_SIZE = _OP.size

_ARRAY = 0x90  # msgpack fixarray; + count
_U8, _U16, _U32, _U64, _BIN8, _STR8 = 0xCC, 0xCD, 0xCE, 0xCF, 0xC4, 0xD9

_MISMATCH = struct.Struct(">BB BQ BB BQ BQ BH BH BQ BQ BB16s BB33s".replace(" ", ""))
_MARK = struct.Struct(">BB BQ BQ BB86s".replace(" ", ""))
_END = struct.Struct(">BB BQ BQ BQ BB77s".replace(" ", ""))

MAX_MARK = 86
"""Bytes in a mark's name, in UTF-8."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A named moment: before op ``seq``, at ``time`` ns."""

    seq: int
    time: int
    name: str


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The two sides differed on op ``seq``, or after all ops (FINAL; then seq is their number).

    ``offset`` and ``length`` are the bytes that differ, from the first to the last; the statuses are
    errno values; ``payload`` and ``digest`` are those of what the test side returned.
    """

    seq: int
    fault: int
    offset: int
    length: int
    expected_status: int
    actual_status: int
    time: int
    payload: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The last record of a trace that was closed: how many ops it has, and how the run ended."""

    ops: int
    mismatches: int
    time: int
    verdict: str


@dataclass(slots=True)
class Header:
    """What a trace says of itself. ``size`` is the disk's, in bytes; ``started`` is ns since 1970."""

    size: int
    payloads: str = "full"
    driver: dict[str, Any] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    started: int = 0
    trim: TrimRule = TrimRule.ANY
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    digest: str = digest.NAME
    start_image: str = "blank"
    cut: dict[str, Any] = field(default_factory=dict)
    """Where its ops are from, if it is a part of another trace (tracer/cut.py)."""
    record_size: int = RECORD_SIZE
    format: str = FORMAT
    version: int = VERSION


Record = Op | Mark | Mismatch | End


def pack_op(op: Op) -> bytes:
    """An op's record."""
    return _OP.pack(
        _ARRAY + 15, Tag.OP,
        _U64, op.seq, _U8, op.kind, _U16, op.flags, _U64, op.offset, _U64, op.length,
        _U64, op.submitted, _U64, op.completed, _U64, op.reference_ns, _U64, op.test_ns,
        _U16, op.reference_status, _U16, op.test_status, _U32, op.connection,
        _U64, op.payload, _BIN8, 16, op.digest,
    )  # fmt: skip


def _pack_mark(mark: Mark) -> bytes:
    name = mark.name.encode()
    if len(name) > MAX_MARK:
        raise ValueError(f"a mark's name has at most {MAX_MARK} bytes")
    return _MARK.pack(_ARRAY + 4, Tag.MARK, _U64, mark.seq, _U64, mark.time, _STR8, MAX_MARK, name)


def _pack_mismatch(m: Mismatch) -> bytes:
    return _MISMATCH.pack(
        _ARRAY + 11, Tag.MISMATCH,
        _U64, m.seq, _U8, m.fault, _U64, m.offset, _U64, m.length,
        _U16, m.expected_status, _U16, m.actual_status, _U64, m.time, _U64, m.payload,
        _BIN8, 16, m.digest, _BIN8, 33, b"",
    )  # fmt: skip


def _pack_end(end: End) -> bytes:
    return _END.pack(
        _ARRAY + 5, Tag.END,
        _U64, end.ops, _U64, end.mismatches, _U64, end.time, _STR8, 77, end.verdict.encode(),
    )  # fmt: skip


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
            with suppress(OSError):  # a piece of a record may not stay where a later one would follow it
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


def _unpack_op(data: Any, at: int, size: int) -> Op | None:
    (
        array, _,
        t1, seq, t2, kind, t3, flags, t4, offset, t5, length, t6, submitted, t7, completed,
        t8, reference_ns, t9, test_ns, t10, reference_status, t11, test_status, t12, connection,
        t13, payload, t14, width, digest_,
    ) = _OP.unpack_from(data, at)  # fmt: skip
    types = (array, t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12, t13, t14, width)
    limit = MAX_LENGTH["data"] if kind in (0, 1, 64) else MAX_LENGTH["other"]
    if (
        types != _OP_TYPES
        or kind not in KIND_BY_NUMBER
        or flags & ~KNOWN_FLAGS
        or length > limit
        or offset + length > size
        or (not length and kind != 3)
    ):
        return None
    return Op(
        seq, kind, flags, offset, length, submitted, completed, reference_ns, test_ns,
        reference_status, test_status, connection, payload, digest_,
    )  # fmt: skip


KNOWN_FLAGS = sum(Flag)

_OP_TYPES = (
    _ARRAY + 15, _U64, _U8, _U16, _U64, _U64, _U64, _U64, _U64, _U64, _U16, _U16, _U32, _U64,
    _BIN8, 16,
)  # fmt: skip


def _unpack_mark(data: Any, at: int, _size: int) -> Mark | None:
    array, _, t1, seq, t2, time, t3, width, name = _MARK.unpack_from(data, at)
    if (array, t1, t2, t3, width) != (_ARRAY + 4, _U64, _U64, _STR8, MAX_MARK):
        return None
    return Mark(seq, time, name.rstrip(b"\0").decode(errors="replace"))


def _unpack_mismatch(data: Any, at: int, size: int) -> Mismatch | None:
    (
        array, _, t1, seq, t2, fault, t3, offset, t4, length, t5, expected, t6, actual,
        t7, time, t8, payload, t9, width, digest_, t10, pad, _,
    ) = _MISMATCH.unpack_from(data, at)  # fmt: skip
    types = (array, t1, t2, t3, t4, t5, t6, t7, t8, t9, width, t10, pad)
    wanted = (
        _ARRAY + 11, _U64, _U8, _U64, _U64, _U16, _U16, _U64, _U64, _BIN8, 16, _BIN8, 33,
    )  # fmt: skip
    if types != wanted or fault not in Fault.__members__.values() or offset + length > size:
        return None
    return Mismatch(seq, fault, offset, length, expected, actual, time, payload, digest_)


def _unpack_end(data: Any, at: int, _size: int) -> End | None:
    array, _, t1, ops, t2, mismatches, t3, time, t4, width, verdict = _END.unpack_from(data, at)
    if (array, t1, t2, t3, t4, width) != (_ARRAY + 5, _U64, _U64, _U64, _STR8, 77):
        return None
    return End(ops, mismatches, time, verdict.rstrip(b"\0").decode(errors="replace"))


_UNPACK: dict[int, Callable[[Any, int, int], Record | None]] = {
    Tag.OP: _unpack_op,
    Tag.MARK: _unpack_mark,
    Tag.MISMATCH: _unpack_mismatch,
    Tag.END: _unpack_end,
}

assert _MARK.size == _MISMATCH.size == _END.size == RECORD_SIZE


def _parse_header(path: Path, head: bytes) -> tuple[Header, int]:
    """The header, and the byte at which the records start."""
    raw, records_at = parse_header(path, head, "a trace", FORMAT, VERSION)
    known = {name: raw[name] for name in Header.__dataclass_fields__ if name in raw}
    sound = (
        isinstance(size := raw.get("size"), int)
        and 0 < size <= MAX_SIZE
        and raw.get("record_size") == RECORD_SIZE
        and raw.get("digest") == digest.NAME
        and raw.get("payloads") in ("full", "hash")
        and raw.get("trim") in list(TrimRule)
        and raw.get("start_image") in ("blank", "recorded")
        and isinstance(raw.get("id"), str)
        and isinstance(raw.get("started"), int)
        and all(isinstance(raw.get(name), dict) for name in ("driver", "host", "tools"))
        and isinstance(raw.get("cut", {}), dict)  # missing where the trace is older than the key
    )
    if not sound:
        raise TraceError(f"{path}: its header is damaged")
    return Header(**{**known, "trim": TrimRule(raw["trim"])}), records_at
