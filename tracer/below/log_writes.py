"""The log of the kernel's dm-log-writes target, which QEMU's blklogwrites driver writes as well.

linux/drivers/md/dm-log-writes.c defines the format: a superblock, then entries of one sector, each
followed by its data. Sectors have the log's own sector size. All numbers are little-endian. Entries
are in the order in which the writes reached the disk.

``entries`` reads a log that a driver of ours has written. analysis/interop/dm_log_writes.py takes
logs from anywhere.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from tracer.below.op import LowerKind, LowerOp
from tracer.digest import digest
from tracer.errors import Undecidable
from tracer.op import SECTOR, ZERO_DIGEST

MAGIC = 0x6A736677736872
VERSION = 1
FLUSH, FUA, DISCARD, MARK, METADATA = (1 << bit for bit in range(5))
"""The flags of an entry."""

SUPER = struct.Struct("<QQQI")
"""The superblock: magic, version, number of entries, sector size."""

ENTRY = struct.Struct("<QQQQ")
"""An entry: sector, number of sectors, flags, bytes of a mark's name (which follows in the same
sector)."""

MAX_SECTOR = 1 << 23
"""QEMU takes sector sizes below 16 MiB (block/blklogwrites.c)."""

PIECE = 32 << 20
"""The most bytes of an entry that are read at a time."""


def entries(log: Path) -> Iterator[LowerOp]:
    """Yield the lower ops of a log in sectors of 512 bytes, up to the last whole one.

    The superblock's number of entries does not count: QEMU writes it at flushes only. A write of
    zeroes and a zero are the same in a log: both are yielded as ZERO. Raises Undecidable where the
    log is torn: before 7.2.9, QEMU spoils it if lower zeroes overlap with other lower ops in time.
    """
    fd = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        number, at = 0, SECTOR
        while at + SECTOR <= size:
            head = os.pread(fd, SECTOR, at)
            sector, count, flags, named = ENTRY.unpack_from(head)
            if flags == MARK and not count:
                size_now = _truncated(head[ENTRY.size : ENTRY.size + named], at)
                yield LowerOp(number, LowerKind.TRUNCATE, 0, size_now, log_at=at,
                              log_end=at + SECTOR)  # fmt: skip
                number += 1
                at += SECTOR
                continue
            if flags & ~(FLUSH | FUA | DISCARD) or not (flags or count):
                raise _torn(at)
            data_at, offset, length = at + SECTOR, sector * SECTOR, count * SECTOR
            fua = bool(flags & FUA)
            if flags & FLUSH:  # it comes before the entry's own data
                yield LowerOp(number, LowerKind.FLUSH, 0, 0, log_at=at, log_end=at + SECTOR)
                number += 1
            if flags & DISCARD:
                yield LowerOp(number, LowerKind.DISCARD, offset, length, fua=fua,
                              log_at=at, log_end=data_at)  # fmt: skip
                number += 1
            elif count:
                if data_at + length > size:
                    return
                key = _digest(fd, data_at, length)
                kind = LowerKind.ZERO if key == ZERO_DIGEST else LowerKind.WRITE
                yield LowerOp(number, kind, offset, length, fua=fua, digest=key,
                              log_at=at, log_end=data_at + length)  # fmt: skip
                number += 1
                data_at += length
            at = data_at
    finally:
        os.close(fd)


TRUNCATE = b"truncate "
"""How a mark of ours begins that says which size the file got: the format has no such entry."""


class LogWriter:
    """Appends entries to a log in sectors of 512 bytes. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.pwrite(self._fd, SUPER.pack(MAGIC, VERSION, 0, SECTOR).ljust(SECTOR, b"\0"), 0)
        self._at = SECTOR

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
        name = TRUNCATE + str(size).encode()
        self._append(ENTRY.pack(0, 0, MARK, len(name)) + name)

    def entry(self, start: int, end: int, flags: int, data: bytes = b"") -> None:
        """An entry for the bytes ``[start, end)`` of the file, with its data, if it has any."""
        head = ENTRY.pack(start // SECTOR, (end - start) // SECTOR, flags, 0)
        self._append(head.ljust(SECTOR, b"\0") + data)

    def _append(self, entry: bytes) -> None:
        entry = entry.ljust(SECTOR, b"\0")
        written = 0
        while written < len(entry):
            written += os.pwrite(self._fd, memoryview(entry)[written:], self._at + written)
        self._at += len(entry)


def _truncated(name: bytes, at: int) -> int:
    """Return the size in a mark of ours. Raises Undecidable."""
    digits = name.removeprefix(TRUNCATE)
    if not (name.startswith(TRUNCATE) and digits.isdigit()):
        raise _torn(at)
    return int(digits)


def _torn(at: int) -> Undecidable:
    return Undecidable(
        f"the log of lower ops is torn at byte {at}: QEMU before 7.2.9 spoils it where lower "
        "zeroes overlap with other lower ops; use a newer build, --depth 1 or --through fuse"
    )


def _digest(fd: int, at: int, length: int) -> bytes:
    """Return the digest of the log's bytes. A larger entry than PIECE is a zero in all drivers that
    we know: that is looked at piece by piece."""
    if length <= PIECE:
        return digest(os.pread(fd, length, at))
    zeroes = all(
        digest(os.pread(fd, min(PIECE, length - done), at + done)) == ZERO_DIGEST
        for done in range(0, length, PIECE)
    )
    return ZERO_DIGEST if zeroes else digest(os.pread(fd, length, at))
