"""A difference between the two sides on an op or after the run, and its line on the screen."""

import errno
from dataclasses import dataclass

from tracer.op import SECTOR, Fault, Kind, Op


@dataclass(slots=True)
class Difference:
    """A disagreement of the two sides on ``op``, or after all ops (``op`` is None).

    ``offset`` and ``length`` cover the bytes from the first that differs to the last, ``expected``
    and ``actual`` hold those bytes, and ``ranges`` has the differing ranges in between. Statuses
    are errno values.
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
    """Return a difference as a line in the style of blkverify."""
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
    """Return ``ENOSPC`` for 28 and ``success`` for 0."""
    return errno.errorcode.get(number, str(number)) if number else "success"
