"""Compare the whole images of both sides.

The reference's holes are known zeroes and are not read. The test side is read everywhere: a
driver's block status is never a reason to skip a comparison. It is checked too.
"""

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from tracer.disk import sparse
from tracer.disk.device import CONNECTION_LOST, LONG_REQUEST, Data, Device
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.disk.waiter import Waiter
from tracer.mirror.block_status import false_hole
from tracer.mirror.comparison import Comparison
from tracer.mirror.difference import Difference
from tracer.mirror.evidence import Evidence
from tracer.op import SECTOR, Extents, Fault, Kind, sectors
from tracer.ranges import RangeSet

CHUNK = 2 << 20
"""Bytes in a read: enough that the cost per request is small, and a few fit in a CPU's cache."""

DEPTH = 4
"""Reads in flight: the driver always has a read to work on while another is compared."""

MAX_EVIDENCE = 64 << 20
"""The most bytes of damaged sectors to keep. With the expected bytes they take twice the memory."""

Progress = Callable[[int], None]
"""Called with the number of bytes of the disk that were compared since the last call."""


@dataclass(slots=True)
class Sweep:
    """The result of comparing two images. ``damage`` is in bytes, sector-aligned."""

    damage: RangeSet = field(default_factory=RangeSet)
    first: Difference | None = None
    """The difference with the lowest offset: damaged sectors, or a request that failed."""
    evidence: list[Evidence] = field(default_factory=list)
    """The bytes of the damaged sectors, up to about MAX_EVIDENCE bytes."""

    @property
    def clean(self) -> bool:
        """Whether there is no difference."""
        return self.first is None


def sweep(
    loop: Loop,
    reference: FileDevice,
    test: Device,
    comparison: Comparison,
    *,
    progress: Progress | None = None,
    timeout: float = 30.0,
    only: RangeSet | None = None,
    adopt: bool = False,
    into: Sweep | None = None,
) -> Sweep:
    """Read the whole test side, or the ranges ``only``, and compare it with the reference.

    With ``adopt``, the reference takes over the test side's undefined bytes (trimmed, or of a
    failed write), so that both images can be used together again. Block status is checked only
    after a clean comparison of the whole disk. ``into`` is a new Sweep to fill: it holds what was
    found even if an exception ends the comparison. Raises DriverHung if the driver does not answer
    for ``timeout`` seconds.
    """
    result = into if into is not None else Sweep()
    whole = RangeSet([(0, reference.export.size)])
    unit = test.export.sizes.minimum
    chunk = min(CHUNK, test.export.sizes.maximum) // unit * unit
    pieces = _pieces(reference, only if only is not None else whole, chunk, unit)
    zeroes = bytes(chunk)
    room = MAX_EVIDENCE
    in_flight: set[int] = set()

    def done(
        offset: int, length: int, is_data: bool, error: int, data: Data | None, _: Extents
    ) -> None:
        nonlocal room
        in_flight.remove(offset)
        if progress is not None:
            progress(length)
        if error:
            _note(result, offset, offset + length, Difference(
                None, Fault.LOST if error == CONNECTION_LOST else Fault.STATUS,
                offset, length, 0, error,
            ))  # fmt: skip
            return
        assert data is not None
        if is_data:
            expected = reference.read(offset, length)
        else:
            expected = zeroes if length == chunk else zeroes[:length]
        if expected == data:
            return
        if adopt:
            for start, end in comparison.undefined(offset, offset + length):
                piece = data[start - offset : end - offset]
                reference.execute(Kind.WRITE, 0, start, end - start, piece)
        for start, end in comparison.differences(expected, data, offset):
            where = slice(start - offset, end - offset)
            good, bad = bytes(expected[where]), bytes(data[where])
            _note(result, start, end, Difference(
                None, Fault.FINAL, start, end - start, expected=good, actual=bad
            ))  # fmt: skip
            if room > 0:
                result.evidence.append(Evidence(start, good, bad))
                room -= len(good)

    wait = Waiter(loop, timeout)
    exhausted = False
    while in_flight or not exhausted:
        while len(in_flight) < DEPTH and not exhausted:
            piece = next(pieces, None)
            if piece is None:
                exhausted = True
                break
            offset, end, is_data = piece
            in_flight.add(offset)
            test.submit(
                Kind.READ,
                0,
                offset,
                end - offset,
                None,
                partial(done, offset, end - offset, is_data),
            )
        test.kick()
        if in_flight:
            wait(f"a read at sector {min(in_flight) // SECTOR} while comparing the images")
    if only is None and result.clean:
        _check_status(reference, test, comparison, result, wait)
    return result


def _note(result: Sweep, start: int, end: int, difference: Difference) -> None:
    """Add a difference in the bytes ``[start, end)`` to the result."""
    damaged = sectors(start, end)
    result.damage.add(damaged.start * SECTOR, damaged.stop * SECTOR)
    if result.first is None or difference.offset < result.first.offset:
        result.first = difference


def _pieces(
    reference: FileDevice, where: RangeSet, chunk: int, unit: int
) -> Iterator[tuple[int, int, bool]]:
    """Yield the pieces to compare: ``(start, end, whether the reference may have data there)``.

    All are multiples of ``unit``, the driver's block size, even if the reference's holes are not.
    """

    def cut(start: int, end: int, is_data: bool) -> Iterator[tuple[int, int, bool]]:
        while start < end:
            # cut at multiples of ``chunk``, so that requests stay aligned
            stop = min(end, (start // chunk + 1) * chunk)
            yield start, stop, is_data
            start = stop

    for at, last in where.aligned(unit):
        last = min(last, reference.export.size)
        for start, end, is_data in sparse.extents(reference.fd, at, last):
            if is_data:
                start, end = max(at, start // unit * unit), min(last, -(-end // unit) * unit)
                yield from cut(at, start, False)
                yield from cut(start, end, True)
                at = end
        yield from cut(at, last, False)


def _check_status(
    reference: FileDevice, test: Device, comparison: Comparison, result: Sweep, wait: Waiter
) -> None:
    """Request block status of the whole test side, and check that what it calls zeroes is zeroes.

    Stops at the first fault.
    """
    size = reference.export.size
    answer: list[tuple[int, Extents]] = []
    offset = 0
    while offset < size:
        length = min(LONG_REQUEST, size - offset)
        answer.clear()
        test.submit(
            Kind.BLOCK_STATUS, 0, offset, length, None,
            lambda error, _, extents: answer.append((error, extents)),
        )  # fmt: skip
        test.kick()
        while not answer:
            wait(f"block status at sector {offset // SECTOR}")
        error, extents = answer[0]
        if error or not extents:
            _note(result, offset, offset + length, Difference(
                None, Fault.LOST if error == CONNECTION_LOST else Fault.STATUS,
                offset, length, 0, error or errno.EIO,
            ))  # fmt: skip
            return
        hole = false_hole(reference, comparison, offset, length, extents)
        if hole is not None:
            start, expected = hole
            result.evidence.append(Evidence(start, expected, bytes(len(expected))))
            _note(result, start, start + len(expected), Difference(
                None, Fault.BLOCK_STATUS, start, len(expected),
                expected=expected, actual=bytes(len(expected)),
            ))  # fmt: skip
            return
        offset += min(length, sum(size for size, _ in extents))
