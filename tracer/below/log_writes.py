"""The log of the kernel's dm-log-writes target, which QEMU's blklogwrites driver writes as well.

linux/drivers/md/dm-log-writes.c defines the format: a superblock, then entries of one sector, each
followed by its data. Sectors have the log's own sector size. All numbers are little-endian. Entries
are in the order in which the writes reached the disk.

``entries`` reads a log that a driver of ours has written. analysis/interop/dm_log_writes.py takes
logs from anywhere.
"""

import os
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tracer.below.op import LowerKind, LowerOp
from tracer.closing import Closing
from tracer.digest import digest, is_zero
from tracer.disk import sparse
from tracer.errors import Undecidable
from tracer.files import pwrite_all
from tracer.op import NO_TIME, SECTOR, ZERO_DIGEST

MAGIC = 0x6A736677736872
VERSION = 1
FLUSH, FUA, DISCARD, MARK, METADATA = (1 << bit for bit in range(5))
"""The flags of an entry."""

SUPER = struct.Struct("<QQQI")
"""The superblock: magic, version, number of entries, sector size."""

ENTRY = struct.Struct("<QQQQ")
"""An entry: sector, number of sectors, flags, bytes of a mark's name (which follows in the same
sector)."""

TIME = struct.Struct("<Q")
"""Ours, in the last bytes of an entry's sector, which the format leaves empty: when the op was
done, in ns of the system's monotonic clock. 0: nothing says so."""

MAX_SECTOR = 1 << 23
"""QEMU takes sector sizes below 16 MiB (block/blklogwrites.c)."""

SHORT = 1 << 16
"""Bytes that are read whole at less cost than asking whether they are a hole."""

PIECE = 32 << 20
"""The most bytes of an entry that are read at a time."""


def entries(log: Path, started: int = 0) -> Iterator[LowerOp]:
    """Yield the lower ops of a log, as ``LogReader.more``."""
    with LogReader(log, started) as reader:
        yield from reader.more()


class LogReader(Closing):
    """Reads a log in sectors of 512 bytes, which may still grow. ``started`` is when the guest's
    clock began, in ns of the system's monotonic clock. Raises OSError."""

    def __init__(self, log: Path, started: int = 0) -> None:
        self._started = started
        self._time = NO_TIME
        self._fd = os.open(log, os.O_RDWR | os.O_CLOEXEC)
        self._number = 0
        self._at = SECTOR

    def more(self) -> Iterator[LowerOp]:
        """Yield the lower ops that have come since the last time, up to the last whole one.

        The superblock's number of entries does not count: QEMU writes it at flushes only. A write
        of zeroes and a zero are the same in a log: both are yielded as ZERO. Raises Undecidable
        where the log is torn: before 7.2.9, QEMU spoils it if lower zeroes overlap with other lower
        ops in time.
        """
        size = os.fstat(self._fd).st_size
        while self._at + SECTOR <= size:
            head = os.pread(self._fd, SECTOR, self._at)
            sector, count, flags, named = ENTRY.unpack_from(head)
            (done,) = TIME.unpack_from(head, SECTOR - TIME.size)
            self._time = max(0, done - self._started) if done else NO_TIME
            data_at = self._at + SECTOR
            if flags == MARK and not count:
                yield self._marked(head[ENTRY.size : ENTRY.size + named], data_at)
                self._at = data_at
                continue
            if flags & ~(FLUSH | FUA | DISCARD) or not (flags or count):
                raise _torn(self._at)
            offset, length, fua = sector * SECTOR, count * SECTOR, bool(flags & FUA)
            has_data = count and not flags & DISCARD
            end = data_at + length if has_data else data_at
            if end > size:
                return
            if flags & FLUSH:  # it comes before the entry's own data
                yield self._op(LowerKind.FLUSH, 0, 0, data_at)
            if flags & DISCARD:
                yield self._op(LowerKind.DISCARD, offset, length, data_at, fua=fua)
            elif has_data:
                key = _digest(self._fd, data_at, length)
                kind = LowerKind.ZERO if key == ZERO_DIGEST else LowerKind.WRITE
                yield self._op(kind, offset, length, end, fua=fua, key=key)
            self._at = end

    def forget(self, before: int | None = None) -> None:
        """Free the room of what was read, or of what lies before that byte of the log."""
        end = self._at if before is None else before
        if end > SECTOR:
            sparse.punch(self._fd, SECTOR, end - SECTOR)

    def read(self, op: LowerOp, start: int, end: int) -> bytes:
        """Return the bytes ``[start, end)`` of the file that an op wrote."""
        return os.pread(self._fd, end - start, op.data_at + start - op.offset)

    def close(self) -> None:
        """Close the log. A second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _marked(self, name: bytes, end: int) -> LowerOp:
        """Return what a mark of ours says. Raises Undecidable."""
        word, *rest = name.split(b" ")
        numbers = [int(part) for part in rest if part.isdigit()]
        if word == TRUNCATE and len(numbers) == len(rest) == 1:
            return self._op(LowerKind.TRUNCATE, 0, numbers[0], end)
        if word == FAILED and len(numbers) == len(rest) == 4 and numbers[1] in list(LowerKind):
            number, kind, offset, length = numbers
            return replace(self._op(LowerKind(kind), offset, length, end), error=number)
        raise _torn(self._at)

    def _op(
        self, kind: LowerKind, offset: int, length: int, end: int, *, fua: bool = False,
        key: bytes = ZERO_DIGEST,
    ) -> LowerOp:  # fmt: skip
        self._number += 1
        return LowerOp(self._number - 1, kind, offset, length, fua=fua, digest=key,
                       log_at=self._at, log_end=end, time=self._time)  # fmt: skip


TRUNCATE, FAILED = b"truncate", b"failed"
"""How a mark of ours begins that says which size the file got, or that an op failed: with errno,
kind, offset and length. The format has no such entries."""


class LogWriter:
    """Appends entries to a log in sectors of 512 bytes. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.pwrite(self._fd, SUPER.pack(MAGIC, VERSION, 0, SECTOR).ljust(SECTOR, b"\0"), 0)
        self._at = SECTOR
        self.count = 0
        """Entries so far."""

    def write(self, offset: int, data: bytes) -> None:
        """A write of whole sectors."""
        self.entry(offset, offset + len(data), 0, data)

    def zero(self, start: int, end: int) -> None:
        """A write of zeroes, which take no room."""
        self.entry(start, end, 0)
        self._at += end - start
        os.ftruncate(self._fd, self._at)

    def truncate(self, size: int) -> None:
        """The file got another size, in bytes."""
        self._mark(b"%b %d" % (TRUNCATE, size))

    def failed(self, number: int, kind: LowerKind, offset: int, length: int) -> None:
        """An op failed with errno ``number``, and did nothing."""
        self._mark(b"%b %d %d %d %d" % (FAILED, number, kind, offset, length))

    def entry(self, start: int, end: int, flags: int, data: bytes = b"") -> None:
        """An entry for the bytes ``[start, end)`` of the file, with its data, if it has any."""
        self._append(ENTRY.pack(start // SECTOR, (end - start) // SECTOR, flags, 0), data)

    def _mark(self, name: bytes) -> None:
        self._append(ENTRY.pack(0, 0, MARK, len(name)) + name)

    def _append(self, head: bytes, data: bytes = b"") -> None:
        self.count += 1
        now = TIME.pack(time.monotonic_ns())
        entry = head.ljust(SECTOR - TIME.size, b"\0") + now + data
        pwrite_all(self._fd, entry, self._at)
        self._at += len(entry)


def _torn(at: int) -> Undecidable:
    return Undecidable(
        f"the log of lower ops is torn at byte {at}: QEMU before 7.2.9 spoils it where lower "
        "zeroes overlap with other lower ops; use a newer build, --depth 1 or --through fuse"
    )


def _digest(fd: int, at: int, length: int) -> bytes:
    """Return the digest of the log's bytes. Zeroes are mostly holes, and may be long."""
    if length > SHORT and not sparse.data(fd, at, at + length):
        return ZERO_DIGEST
    if length <= PIECE or any(
        not is_zero(os.pread(fd, min(PIECE, length - done), at + done))
        for done in range(0, length, PIECE)
    ):
        return digest(os.pread(fd, length, at))
    return ZERO_DIGEST
