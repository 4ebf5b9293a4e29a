"""Holes in files: what Python's os module leaves out of fallocate(2), and where the data is."""

import ctypes
import errno
import os
from collections.abc import Iterator

_KEEP_SIZE = 0x01  # linux/falloc.h
_PUNCH_HOLE = 0x02
_ZERO_RANGE = 0x10

_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

_ZEROES = bytes(1 << 20)


def punch(fd: int, offset: int, length: int) -> None:
    """Make a range read as zeroes and give its blocks back; OSError where that fails."""
    _zero(fd, _PUNCH_HOLE | _KEEP_SIZE, offset, length)


def zero(fd: int, offset: int, length: int) -> None:
    """Make a range read as zeroes and keep its blocks; OSError where that fails."""
    _zero(fd, _ZERO_RANGE | _KEEP_SIZE, offset, length)


def _zero(fd: int, mode: int, offset: int, length: int) -> None:
    if _fallocate(fd, mode, offset, length) == 0:
        return
    number = ctypes.get_errno()
    if number not in (errno.EOPNOTSUPP, errno.ENOSYS):
        raise OSError(number, os.strerror(number))
    end = offset + length
    while offset < end:  # the file system has no such call: write them
        offset += os.pwrite(fd, _ZEROES[: end - offset], offset)


def extents(fd: int, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """``[start, end)`` as consecutive ``(start, end, is_data)`` pieces. A hole reads as zeroes."""
    while start < end:
        try:
            data = min(os.lseek(fd, start, os.SEEK_DATA), end)
        except OSError as error:
            if error.errno != errno.ENXIO:  # ENXIO: no data from here on
                raise
            data = end
        if data > start:
            yield start, data, False
        start = data
        if start < end:
            stop = min(os.lseek(fd, start, os.SEEK_HOLE), end)
            yield start, stop, True
            start = stop


def copy(source: str, target: str) -> None:
    """Copy a file and its holes to a new one; blocks are shared where the file system can. OSError."""
    with open(source, "rb") as old, open(target, "xb") as new:
        size = os.fstat(old.fileno()).st_size
        new.truncate(size)
        for start, end, is_data in extents(old.fileno(), 0, size):
            at = start
            while is_data and at < end:
                at += os.copy_file_range(old.fileno(), new.fileno(), end - at, at, at)
