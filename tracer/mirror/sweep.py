"""Compare both images whole.

The reference's holes are known zeroes and are not read. The test side is read all the same: what a
driver says of its own holes is never a reason to skip a comparison, and is checked besides.
"""

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from tracer.disk import sparse
from tracer.disk.device import CONNECTION_LOST, Data, Device
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.disk.waiter import STATUS_STEP, Waiter
from tracer.mirror.block_status import false_hole
from tracer.mirror.comparison import Comparison
from tracer.mirror.difference import Difference
from tracer.mirror.evidence import Evidence
from tracer.op import SECTOR, Extents, Fault, Kind
from tracer.ranges import RangeSet

CHUNK = 2 << 20
"""Bytes in a read: enough to make the cost of a request small, and a few of them fit a cache."""

DEPTH = 4
"""Reads in flight: the driver always has one to work on while we compare another."""

MAX_EVIDENCE = 64 << 20
"""Bytes of damaged sectors that are kept: with what they should hold, twice that in memory."""

Progress = Callable[[int], None]
"""Told how many more bytes of the disk are done with."""


@dataclass(slots=True)
class Sweep:
    """What came of comparing two images whole. ``damage`` is in bytes, sector-aligned."""

    damage: RangeSet = field(default_factory=RangeSet)
    first: Difference | None = None
    """The lowest difference: the first damaged sector's bytes, or a read that failed."""
    evidence: list[Evidence] = field(default_factory=list)
    """What the damaged sectors should hold and what they do, up to MAX_EVIDENCE bytes of it."""

    @property
    def clean(self) -> bool:
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
) -> Sweep:
    """Read the test side whole (or just ``only``) and compare it with the reference.

    With ``adopt``, the reference takes over what the test side reads where either is right (trimmed
    bytes, or after a failed write), so that the two images can be used together again.
    Raises DriverHung where nothing comes back for ``timeout`` seconds.
    """
    result = Sweep()
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
    result.damage.add(start // SECTOR * SECTOR, -(-end // SECTOR) * SECTOR)
    if result.first is None or difference.offset < result.first.offset:
        result.first = difference


def _pieces(
    reference: FileDevice, where: RangeSet, chunk: int, unit: int
) -> Iterator[tuple[int, int, bool]]:
    """Chunks to compare: ``(start, end, whether the reference may have data there)``. All are multiples
    of ``unit``, the driver's block size, wherever the reference's holes begin and end."""

    def cut(start: int, end: int, is_data: bool) -> Iterator[tuple[int, int, bool]]:
        while start < end:
            # cut at multiples of the chunk, so that requests stay aligned
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
    """Ask for block status everywhere: what it calls zeroes must be."""
    size = reference.export.size
    answer: list[tuple[int, Extents]] = []
    offset = 0
    while offset < size:
        length = min(STATUS_STEP, size - offset)
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
        lie = false_hole(reference, comparison, offset, length, extents)
        if lie is not None:
            start, expected = lie
            result.evidence.append(Evidence(start, expected, bytes(len(expected))))
            _note(result, start, start + len(expected), Difference(
                None, Fault.BLOCK_STATUS, start, len(expected),
                expected=expected, actual=bytes(len(expected)),
            ))  # fmt: skip
            return
        offset += min(length, sum(size for size, _ in extents))
