"""Holes in files: zero a range, list holes and data, copy a file with its holes.

Python's os module does not offer the modes of fallocate(2) that this needs.
"""

import ctypes
import errno
import os
from collections.abc import Iterator

from tracer.files import private

_KEEP_SIZE = 0x01  # linux/falloc.h
_PUNCH_HOLE = 0x02
_ZERO_RANGE = 0x10

_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

_PIECE = 1 << 20
"""Bytes that are compared at a time."""

_ZEROES = bytes(1 << 20)


def punch(fd: int, offset: int, length: int) -> None:
    """Make a range read as zeroes and free its blocks. Raises OSError."""
    _zero(fd, _PUNCH_HOLE | _KEEP_SIZE, offset, length)


def zero(fd: int, offset: int, length: int) -> None:
    """Make a range read as zeroes and keep its blocks. Raises OSError."""
    _zero(fd, _ZERO_RANGE | _KEEP_SIZE, offset, length)


def _zero(fd: int, mode: int, offset: int, length: int) -> None:
    if _fallocate(fd, mode, offset, length) == 0:
        return
    number = ctypes.get_errno()
    if number not in (errno.EOPNOTSUPP, errno.ENOSYS):
        raise OSError(number, os.strerror(number))
    end = offset + length
    while offset < end:  # the file system does not support the mode: write zeroes
        offset += os.pwrite(fd, _ZEROES[: end - offset], offset)


def extents(fd: int, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """Yield ``[start, end)`` as consecutive pieces ``(start, end, is_data)``. Holes read as zeroes.

    Raises OSError.
    """
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


def data(fd: int, start: int, end: int) -> list[tuple[int, int]]:
    """Return the parts of ``[start, end)`` that are no holes. Raises OSError."""
    return [(first, last) for first, last, is_data in extents(fd, start, end) if is_data]


def copy(source: str, target: str) -> None:
    """Copy a file with its holes to a new file, which shares blocks if the file system can do that.

    Raises OSError, also if ``target`` exists.
    """
    with open(source, "rb") as old, open(target, "xb", opener=private) as new:
        size = os.fstat(old.fileno()).st_size
        new.truncate(size)
        for start, end, is_data in extents(old.fileno(), 0, size):
            at = start
            while is_data and at < end:
                at += _copy_some(old.fileno(), new.fileno(), at, end - at)


def match(source: str, target: str) -> None:
    """Make an existing file hold what another holds. Only pieces that differ are written: where the
    files are nearly equal, this is much cheaper than a copy. Raises OSError."""
    with open(source, "rb") as old, open(target, "r+b") as new:
        size = os.fstat(old.fileno()).st_size
        new.truncate(size)
        places = data(old.fileno(), 0, size)
        for start, end in places:
            for at in range(start, end, _PIECE):
                length = min(_PIECE, end - at)
                wanted = os.pread(old.fileno(), length, at)
                if wanted != os.pread(new.fileno(), length, at):
                    os.pwrite(new.fileno(), wanted, at)
        edges = [0, *(edge for place in places for edge in place), size]
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            for first, last in data(new.fileno(), start, end):  # a hole in the source
                punch(new.fileno(), first, last - first)


def _copy_some(old: int, new: int, at: int, length: int) -> int:
    """Copy up to ``length`` bytes at ``at``; return how many were copied. Raises OSError."""
    try:
        return os.copy_file_range(old, new, length, at, at)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
    # the files are on different file systems
    return os.pwrite(new, os.pread(old, min(length, len(_ZEROES)), at), at)
