"""Block status of the two sides.

``false_holes`` finds data that the test side calls zeroes. ``common_extents`` is the block status
that the guest gets: what both sides agree on.
"""

from collections.abc import Iterator

from tracer.digest import is_zero
from tracer.disk import sparse
from tracer.disk.file import FileDevice
from tracer.mirror.comparison import Comparison
from tracer.nbd.protocol import State
from tracer.op import Extents

STEP = 1 << 20
"""Bytes of the reference to read and compare at a time."""


def false_holes(
    reference: FileDevice, comparison: Comparison, offset: int, length: int, extents: Extents
) -> Iterator[tuple[int, bytes]]:
    """Find the ranges that ``extents`` call zeroes although they must hold data.

    ``extents`` are the test side's block status of the ``length`` bytes from ``offset``. Yields
    each range's offset and the reference's data there, in whole sectors, up to STEP bytes, in the
    order of the disk. Raises OSError.
    """
    end = offset + length
    for size, state in extents:
        stop = min(offset + size, end)
        if state & State.ZERO:
            for start, data_end, is_data in sparse.extents(reference.fd, offset, stop):
                if not is_data:
                    continue
                for at in range(start, data_end, STEP):
                    data = reference.read(at, min(STEP, data_end - at))
                    if is_zero(data):
                        continue
                    for first, last in comparison.differences(data, bytes(len(data)), at):
                        yield first, data[first - at : last - at]
        offset = stop


def common_extents(ours: Extents, theirs: Extents, length: int) -> Extents:
    """Return the block status on which both sides agree: a flag is set if both sides set it.

    It ends where the shorter of the two ends, or after ``length`` bytes.
    """
    merged: Extents = []
    left, right = iter(ours), iter(theirs)
    a = b = 0
    a_state = b_state = 0
    while length > 0:
        if not a:
            a, a_state = next(left, (0, 0))
        if not b:
            b, b_state = next(right, (0, 0))
        step = min(a, b, length)
        if not step:
            break
        state = a_state & b_state
        if merged and merged[-1][1] == state:
            merged[-1] = (merged[-1][0] + step, state)
        else:
            merged.append((step, state))
        a, b, length = a - step, b - step, length - step
    return merged
