"""A FUSE file system of one file, which logs what is done to it: the program that serves it.

    python -m tracer.below.fuse_file FILE LOG MOUNTPOINT [NUMBER ERRNO]

The file in the mount point has FILE's name. All that is done to it is done to FILE, and then
appended to LOG in the format of dm-log-writes (tracer/below/log_writes.py), before it is answered.
One thread does one operation at a time, so the log's order is the order of the file. The page cache
is left out (direct_io). The program ends when the file system is unmounted.

With NUMBER, lower op NUMBER fails with ERRNO. ENOSPC is for ops that need room: the first of these
from NUMBER on fails, and then all that make the file grow, until something is freed. Whoever looks
for the file CALM in the mount point ends all failures.
"""

import errno
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mfusepy  # type: ignore[import-untyped]

from tracer.below.log_writes import DISCARD, FLUSH, LogWriter
from tracer.below.mounted import CALM
from tracer.below.op import LowerKind
from tracer.disk import sparse
from tracer.files import pwrite_all
from tracer.op import SECTOR

KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 0x01, 0x02, 0x10
"""Modes of fallocate(2), from linux/falloc.h."""

ZERO = -1
"""In place of an entry's flags: zeroes."""


@dataclass(slots=True)
class Fails:
    """Which lower ops fail: op ``number`` with ``errno``; None: none does."""

    number: int | None = None
    errno: int = errno.EIO
    begun: bool = False
    calm: bool = False
    """Whether the cause is gone."""

    def error(self, number: int, kind: LowerKind, *, grows: bool) -> int:
        """Return with which errno lower op ``number`` fails; 0: it does not. ``grows`` says whether
        it would make the file larger."""
        if self.number is None or self.calm or number < self.number:
            return 0
        if self.errno != errno.ENOSPC:
            self.calm = True
            return self.errno
        if kind is LowerKind.DISCARD or (kind is LowerKind.TRUNCATE and not grows):
            self.calm = self.begun  # something was freed
            return 0
        needs_room = grows or (not self.begun and kind in (LowerKind.WRITE, LowerKind.ZERO))
        self.begun = self.begun or needs_room
        return self.errno if needs_room else 0


class OneFile(mfusepy.Operations):  # type: ignore[misc]
    """The operations of the file system."""

    use_ns = True

    def __init__(self, path: Path, log: Path, fails: Fails | None = None) -> None:
        self._name = f"/{path.name}"
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._log = LogWriter(log)
        self._fails = fails or Fails()

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2, "st_uid": os.getuid(),
                    "st_gid": os.getgid()}  # fmt: skip
        if path == f"/{CALM}":
            self._fails.calm = True
        if path != self._name:
            raise mfusepy.FuseOSError(errno.ENOENT)
        found = os.fstat(self._fd)
        return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": found.st_size,
                "st_blocks": found.st_blocks, "st_uid": os.getuid(), "st_gid": os.getgid(),
                "st_mtime": found.st_mtime_ns, "st_ctime": found.st_ctime_ns}  # fmt: skip

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", self._name[1:]]

    def open(self, path: str, flags: int) -> int:
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._may_fail(LowerKind.WRITE, offset, len(data))
        pwrite_all(self._fd, data, offset)
        self._changed(offset, offset + len(data))
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        self._may_fail(LowerKind.TRUNCATE, 0, length)
        os.ftruncate(self._fd, length)
        self._log.truncate(length)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._may_fail(LowerKind.FLUSH, 0, 0)
        # the log is in the order of completion: what the host's disk does with it does not matter
        self._log.entry(0, 0, FLUSH)
        return 0

    def fallocate(self, path: str, mode: int, offset: int, size: int, fh: int) -> int:
        if mode & ~(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE):
            raise mfusepy.FuseOSError(errno.EOPNOTSUPP)
        self._may_fail(LowerKind.DISCARD if mode & PUNCH_HOLE else LowerKind.ZERO, offset, size)
        size_now = max(os.fstat(self._fd).st_size, 0 if mode & KEEP_SIZE else offset + size)
        end = min(offset + size, size_now)
        if mode & (PUNCH_HOLE | ZERO_RANGE) and offset < end:
            sparse.punch(self._fd, offset, end - offset)
        if size_now != os.fstat(self._fd).st_size:
            os.ftruncate(self._fd, size_now)
            self._log.truncate(size_now)
        if mode & (PUNCH_HOLE | ZERO_RANGE) and offset < end:
            self._changed(offset, end, DISCARD if mode & PUNCH_HOLE else ZERO)
        return 0

    def _may_fail(self, kind: LowerKind, offset: int, length: int) -> None:
        """Fail an operation if its turn has come: it then does nothing."""
        grows = offset + length > os.fstat(self._fd).st_size
        number = self._fails.error(self._log.count, kind, grows=grows)
        if number:
            self._log.failed(number, kind, offset, length)
            raise mfusepy.FuseOSError(number)

    def _changed(self, offset: int, end: int, how: int = 0) -> None:
        """Log that a range was written, discarded or zeroed. A disk writes whole sectors: what is
        none is logged with its sectors' data."""
        first, last = offset // SECTOR * SECTOR, -(-end // SECTOR) * SECTOR
        if how == DISCARD and (first, last) == (offset, end):
            self._log.entry(first, last, DISCARD)
        elif how == ZERO and (first, last) == (offset, end):
            self._log.zero(first, last)
        else:
            data = os.pread(self._fd, last - first, first)
            self._log.write(first, data.ljust(last - first, b"\0"))

    def statfs(self, path: str) -> dict[str, int]:
        found = os.fstatvfs(self._fd)
        return {"f_bsize": found.f_bsize, "f_frsize": found.f_frsize, "f_blocks": found.f_blocks,
                "f_bavail": found.f_bavail, "f_bfree": found.f_bfree, "f_namemax": 255}  # fmt: skip


if __name__ == "__main__":
    fails = Fails(int(sys.argv[4]), int(sys.argv[5])) if len(sys.argv) > 4 else Fails()
    mfusepy.FUSE(
        OneFile(Path(sys.argv[1]), Path(sys.argv[2]), fails), sys.argv[3], foreground=True,
        nothreads=True, direct_io=True, fsname="blkbox",
    )  # fmt: skip
