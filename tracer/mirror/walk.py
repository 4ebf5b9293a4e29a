"""Walk over the driver's block status: what it calls data, and what it calls zeroes wrongly."""

import errno
import time
from dataclasses import dataclass, field

from tracer.disk.device import CONNECTION_LOST
from tracer.disk.waiter import ask
from tracer.mirror.block_status import false_holes
from tracer.mirror.found import Failed, Sweep
from tracer.mirror.reads import Sides, Stopped
from tracer.nbd.protocol import State
from tracer.op import SECTOR, Extents, Kind
from tracer.progress import bar
from tracer.ranges import RangeSet

FIRST_STEP = 16 << 20
"""Bytes of the first request. Steps get longer while the driver answers fast: a slow one must not
need longer for one answer than a request may take."""

LAST_STEP = (1 << 32) - (1 << 16)
"""Bytes of the longest request: the most that 32 bits hold (NBD), in multiples of every block
size."""

FAST = 0.05
"""Seconds of a fast answer."""


@dataclass(slots=True)
class Walked:
    """What a walk over block status saw."""

    data: RangeSet = field(default_factory=RangeSet)
    """What the driver calls data, in bytes, or does not call zeroes."""
    bytes: int = 0
    """How far the walk came."""


def walk(sides: Sides, found: Sweep, where: RangeSet, label: str, seconds: float | None) -> Walked:
    """Ask for the block status of the ranges, and note false holes in ``found``.

    Ends ``seconds`` after the start, and where a request fails: the latter is noted. Raises
    Stopped, and OSError if the reference fails.
    """
    seen, step = Walked(), FIRST_STEP
    unit, size = sides.test.export.sizes.minimum, sides.reference.export.size
    deadline = None if seconds is None else time.monotonic() + seconds
    with bar(label, where.total()) as progress:
        for offset, end in where.aligned(unit):
            end = min(end, size)
            while offset < end:
                now = time.monotonic()
                if deadline is not None and now > deadline:
                    return seen
                length = min(step, end - offset)
                extents = _status(sides, found, offset, length)
                if extents is None:
                    return seen
                if length == step and time.monotonic() - now < FAST:
                    step = min(step * 4, LAST_STEP)
                comparison = sides.comparison
                for start, lie in false_holes(sides.reference, comparison, offset, length, extents):
                    found.calls_zeroes(start, lie)
                stop = min(end, offset + length)
                for count, state in extents:
                    last = min(offset + count, stop)
                    if last <= offset:
                        break
                    if not state & State.ZERO:
                        seen.data.add(offset, last)
                    progress(last - offset)
                    seen.bytes += last - offset
                    offset = last
    return seen


def _status(sides: Sides, found: Sweep, offset: int, length: int) -> Extents | None:
    """Return the driver's block status; None if it answers with an error. Raises Stopped."""
    question = f"block status at sector {offset // SECTOR}"
    error, _, extents = ask(sides.wait, sides.test, Kind.BLOCK_STATUS, offset, length, question)
    if error == CONNECTION_LOST:
        raise Stopped(Failed(question, error))
    if error or not extents:
        found.failed = found.failed or Failed(question, error or errno.EIO)
        return None
    return extents
