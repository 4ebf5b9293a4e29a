"""Compare the images of both sides, at a cost that follows what was touched.

What ops came to and what the reference holds is always read on the test side, whatever its block
status says of it. Elsewhere, one walk over the block status finds what the driver calls data. That
is read, up to a limit, and a sample of the rest. Block status is checked on the way: it must not
call data zeroes.
"""

from tracer.disk import sparse
from tracer.disk.device import Device
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.disk.waiter import Waiter
from tracer.mirror.comparison import Comparison
from tracer.mirror.found import Sweep
from tracer.mirror.reads import Reads, Sides, Stopped
from tracer.mirror.scope import (
    DATA_SAMPLES,
    MUCH,
    READ_TIME,
    SAMPLES,
    USUAL,
    WALK_TIME,
    Compare,
    Scope,
    sample,
)
from tracer.mirror.touched import GRAIN
from tracer.mirror.walk import Walked, walk
from tracer.ranges import RangeSet
from tracer.verdict import Compared, Walk


def sweep(
    loop: Loop,
    reference: FileDevice,
    test: Device,
    comparison: Comparison,
    *,
    scope: Scope = USUAL,
    label: str = "comparing the images",
    timeout: float = 30.0,
    adopt: bool = False,
    into: Sweep | None = None,
) -> Sweep:
    """Compare the test side with the reference, and check its block status.

    With ``adopt``, the reference takes over the test side's undefined bytes (trimmed, or of a
    failed write) except in samples, so that both images can be used together again. ``label`` names
    the progress bars. If the connection is lost, or an answer takes longer than ``timeout``
    seconds, the result has what was found until then, and the question in ``failed``. Raises
    OSError if the reference fails. ``into`` is a new Sweep to fill: it holds what was found even if
    an exception ends the comparison.
    """
    found = into if into is not None else Sweep()
    sides = Sides(reference, test, comparison, Waiter(loop, test, timeout))
    reads = Reads(sides, found)
    try:
        if scope.only is not None:
            reads.run(scope.only, label, adopt=adopt)
            walk(sides, found, scope.only, f"{label}: block status", None)
        else:
            found.compared = _compare(sides, found, reads, scope, label, adopt)
    except Stopped as stopped:
        found.failed = stopped.failed
    return found


def _compare(
    sides: Sides, found: Sweep, reads: Reads, scope: Scope, label: str, adopt: bool
) -> Compared:
    """Compare what the scope asks for. Raises Stopped and OSError."""
    size = sides.reference.export.size
    disk = RangeSet([(0, size)])
    effort, complete = scope.effort, scope.compare is Compare.WHOLE
    touched = _touched(sides)
    rest = disk.without(touched)
    compared = reads.run(touched, f"{label}: what ops touched", adopt=adopt)
    if complete or rest.total() <= MUCH * effort:
        more = reads.run(rest, f"{label}: the rest", adopt=adopt)
        walked = _walk(sides, found, disk, None if complete else WALK_TIME * effort)
        return Compared(
            size=size, touched=compared, more=more, block_status=_how(sides, walked, size)
        )
    walked = _walk(sides, found, disk, WALK_TIME * effort)
    data = _grains(walked.data, size).without(touched)
    cleared = _grains(sides.comparison.touched.cleared.ranges(), size).without(touched)
    wanted = cleared.copy() if cleared.total() <= MUCH * effort else RangeSet()
    data = data.without(wanted)
    # chosen without regard to block status, so that it does not depend on how far the walk came
    samples = sample(rest, SAMPLES * effort, scope.seed)
    sampled = reads.run(samples, f"{label}: a sample")
    left = 0
    if data.total() <= MUCH * effort:
        for start, end in data:
            wanted.add(start, end)
    else:
        further = sample(data, DATA_SAMPLES * effort, scope.seed).without(samples)
        sampled += reads.run(further, f"{label}: a sample of data", seconds=READ_TIME * effort)
        left = data.total()
    wanted = wanted.without(samples)
    more = reads.run(wanted, f"{label}: data", seconds=READ_TIME * effort, adopt=adopt)
    left += wanted.total() - more
    return Compared(
        size=size, touched=compared, more=more, samples=-(-sampled // GRAIN), sampled=sampled,
        left=left, block_status=_how(sides, walked, size),
    )  # fmt: skip


def _touched(sides: Sides) -> RangeSet:
    """Return the grains where ops came or the reference holds data."""
    size = sides.reference.export.size
    held = RangeSet(
        (start, end)
        for start, end, is_data in sparse.extents(sides.reference.fd, 0, size)
        if is_data
    )
    found = sides.comparison.touched.data.ranges()
    for start, end in held.aligned(GRAIN):
        found.add(start, end)
    return _grains(found, size)


def _grains(ranges: RangeSet, size: int) -> RangeSet:
    """Return the ranges in whole grains, as far as the disk goes."""
    return RangeSet(ranges.aligned(GRAIN).within(0, size))


def _walk(sides: Sides, found: Sweep, disk: RangeSet, seconds: float | None) -> Walked:
    if not sides.test.has_block_status:
        return Walked()
    return walk(sides, found, disk, "reading block status", seconds)


def _how(sides: Sides, walked: Walked, size: int) -> Walk:
    if not sides.test.has_block_status:
        return Walk.NONE
    return Walk.WHOLE if walked.bytes >= size else Walk.PART
