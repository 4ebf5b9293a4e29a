"""What the two sides differ in: as data, and in a line for people."""

import errno
from dataclasses import dataclass

from tracer.op import (
    SECTOR,
    Fault,
    Kind,
    Op,
)


@dataclass(slots=True)
class Difference:
    """The two sides disagree on ``op``, or (op None) after all ops.

    ``offset`` and ``length`` are the bytes from the first that differs to the last; ``expected`` and
    ``actual`` are those bytes.
    """

    op: Op | None
    fault: Fault
    offset: int
    length: int
    expected_status: int = 0
    actual_status: int = 0
    expected: bytes = b""
    actual: bytes = b""
    ranges: tuple[tuple[int, int], ...] = ()


def describe(difference: Difference) -> str:
    """The line that blkverify's users know, for a read; its like for anything else."""
    op = difference.op
    sector = difference.offset // SECTOR
    if op is None:
        what = "images differ after the run"
        if difference.fault == Fault.BLOCK_STATUS:
            what = "block status calls data zeroes after the run"
        elif difference.fault in (Fault.STATUS, Fault.LOST):
            what = f"read failed after the run ({_name(difference.actual_status)})"
        return f"blkbox: {what}, first in sector {sector}"
    place = f"sector_num={op.sectors.start} nb_sectors={len(op.sectors)}"
    what = Kind(op.kind).label
    if difference.fault == Fault.STATUS:
        return (
            f"blkbox: {what} {place} status mismatch: reference "
            f"{_name(difference.expected_status)}, test {_name(difference.actual_status)}"
        )
    if difference.fault == Fault.BLOCK_STATUS:
        return f"blkbox: {what} {place} calls data zeroes in sector {sector}"
    return f"blkbox: {what} {place} contents mismatch in sector {sector}"


def _name(number: int) -> str:
    """ENOSPC for 28; success for 0."""
    return errno.errorcode.get(number, str(number)) if number else "success"
