"""What a caller asks for, checked: a wrong argument is an error in the caller's words."""

import operator
import os
from pathlib import Path

from tracer.errors import UsageError
from tracer.op import SECTOR


def checked_path(path: object) -> Path:
    """Return a trace's path. Raises UsageError if it is not a path."""
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise UsageError(f"a trace is opened by its path as text or Path, not by {path!r}")
    return Path(path)


def checked_sector(sector: object, sectors: int) -> int:
    """Return the number of a sector of a disk that has so many. Raises UsageError."""
    number = _whole(sector, "a sector")
    if not sectors:
        raise UsageError(f"there is no sector {number}: the disk is empty")
    if not 0 <= number < sectors:
        raise UsageError(f"there is no sector {number}: the disk's last is {sectors - 1}")
    return number


def checked_bytes(sectors: object, size: int) -> tuple[int, int]:
    """Return the first byte of some sectors of a disk of ``size`` bytes, and the byte after the
    last: the disk may end within its last sector. Raises UsageError if it is not a range with step
    1, or the disk does not have these sectors."""
    if not isinstance(sectors, range):
        raise UsageError(f"sectors are a range such as range(2048, 2056), not {sectors!r}")
    last = -(-size // SECTOR)
    if sectors.step != 1 or not 0 <= sectors.start < sectors.stop <= last:
        raise UsageError(f"there are no sectors {sectors}: the disk has range(0, {last})")
    return sectors.start * SECTOR, min(sectors.stop * SECTOR, size)


def checked_op(seq: object, last: int) -> int:
    """Return the number of an op of a trace whose last is ``last`` (-1: it has none). Raises
    UsageError."""
    number = _whole(seq, "an op")
    if not 0 <= number <= last:
        there = f"the last is #{last}" if last >= 0 else "the trace has none"
        raise UsageError(f"there is no op #{number}: {there}")
    return number


def _whole(value: object, what: str) -> int:
    """Return a whole number of any library. Raises UsageError if it is something else."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise UsageError(f"{what} is named by its number, not by {value!r}") from None
