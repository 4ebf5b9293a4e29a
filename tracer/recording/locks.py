"""Locks on the files of a recording: no other recording may use them meanwhile.

They are Linux's locks of open file descriptions (F_OFD_SETLK, fcntl(2)). A lock belongs to the
file, whatever name leads to it, and ends with us, even if we are killed.
"""

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tracer.closing import Closing
from tracer.errors import StorageError, UsageError
from tracer.files import PRIVATE
from tracer.trace.header import MAX_SIZE

LOCK = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, MAX_SIZE, 1, 0)
"""A ``struct flock``: a write lock on the first byte after the largest disk. So it meets no lock of
the driver under test, which may lock its image too: QEMU locks some of the bytes 100 to 203 in the
same way, other programs use flock(2), which is independent."""

BUSY = (errno.EAGAIN, errno.EACCES)
"""How the kernel says that another has the lock."""


class Locks(Closing):
    """The files that a recording has locked. ``close`` unlocks them."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, int], tuple[Path, int]] = {}

    def take(self, path: Path, *, create: bool = False) -> bool:
        """Lock a file, unless it does not exist or is neither a regular file nor a block device.
        With ``create``, create an empty file if there is none. Return whether it was created.

        Raises UsageError if another recording has it or if it is already locked under another
        name, StorageError if it cannot be created.
        """
        while True:
            fd, new = _open(path, create)
            if fd is None:
                return False
            try:
                if self._lock(path, fd):
                    return new
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def close(self) -> None:
        """Unlock all files."""
        held, self._held = self._held, {}
        for _, fd in held.values():
            os.close(fd)

    def _lock(self, path: Path, fd: int) -> bool:
        """Lock an open file. Return False if ``path`` leads to another file by now."""
        info = os.fstat(fd)
        key = info.st_dev, info.st_ino
        if key in self._held:
            other, _ = self._held[key]
            raise UsageError(f"{path} and {other} are the same file: give each another name")
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, LOCK)
        except OSError as error:
            if error.errno in BUSY:
                raise UsageError(f"{path} is in use by another recording") from None
            # this file system has no locks
        try:
            now = path.stat()
        except FileNotFoundError:
            return False  # its recording did not start, and removed it
        if (now.st_dev, now.st_ino) != key:
            return False
        self._held[key] = path, fd
        return True


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Within the block, no other recording creates images in the folder: between the look whether
    an image exists and the lock on it, another could create it too."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield  # creating the image will say what is wrong
        return
    try:
        with suppress(OSError):  # if this file system has no locks
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _open(path: Path, create: bool) -> tuple[int | None, bool]:
    """Open a file to lock it. Return its descriptor, and whether the file is new; None if there is
    nothing to lock. Raises StorageError."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        if create:
            try:
                return os.open(path, flags | os.O_CREAT | os.O_EXCL, PRIVATE), True
            except FileExistsError:
                pass
        if not path.exists() or not _can_be_locked(path.stat().st_mode):
            return None, False
        return os.open(path, flags), False
    except OSError as error:
        if create:
            raise StorageError(f"cannot create {path}: {error.strerror}") from error
        return None, False  # who uses it will say what is wrong


def _can_be_locked(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)
