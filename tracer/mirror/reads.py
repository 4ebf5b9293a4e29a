"""Read ranges of the test side and compare them with the reference.

The reference's holes are known zeroes and are not read.
"""

import errno
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from tracer.disk import sparse
from tracer.disk.device import CONNECTION_LOST, Data, Device
from tracer.disk.file import FileDevice
from tracer.disk.waiter import Waiter
from tracer.errors import DriverHung
from tracer.mirror.comparison import Comparison
from tracer.mirror.found import Failed, Sweep
from tracer.op import SECTOR, Extents, Kind
from tracer.progress import bar
from tracer.ranges import RangeSet

CHUNK = 2 << 20
"""Bytes in a read: enough that the cost per request is small, and a few fit in a CPU's cache."""

DEPTH = 4
"""Reads in flight: the driver always has a read to work on while another is compared."""

UNREADABLE = 4096
"""Bytes. A failed read is narrowed down to this: the block of most disks and file systems."""

MAX_NARROWING = 1000
"""Failed reads that are narrowed down. One bad block in a chunk takes ten; a disk that fails
everywhere must not take a read for each block."""


class Stopped(Exception):
    """The driver does not answer any more. ``failed`` is the question."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(str(failed))
        self.failed = failed


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides of a comparison, and what may differ."""

    reference: FileDevice
    test: Device
    comparison: Comparison
    waiter: Waiter

    def wait(self, question: str) -> None:
        """Wait for one round of events. Raises Stopped if none comes in time."""
        try:
            self.waiter(question)
        except DriverHung:
            raise Stopped(Failed(question, errno.ETIMEDOUT)) from None


Piece = tuple[int, int, bool]
"""``(start, end, whether the reference may have data there)``, in bytes."""


class Reads:
    """Compares ranges, and notes in ``found`` what is wrong."""

    def __init__(self, sides: Sides, found: Sweep) -> None:
        self._sides = sides
        self._found = found
        sizes = sides.test.export.sizes
        self._unit = sizes.minimum
        self._chunk = min(CHUNK, sizes.maximum) // self._unit * self._unit
        self._zeroes = bytes(self._chunk)
        self._in_flight: dict[int, Piece] = {}
        self._again: deque[Piece] = deque()
        """The halves of reads that failed."""
        self._narrowed = 0
        self._lost: Failed | None = None
        self._adopt = False
        self._bytes = 0
        self._progress: Callable[[int], None] = lambda more: None

    def run(
        self, where: RangeSet, label: str, *, seconds: float | None = None, adopt: bool = False
    ) -> int:
        """Compare the ranges. ``label`` names the progress bar. Return how many bytes were read.

        Ranges that are not begun ``seconds`` after the start are left out. With ``adopt``, the
        reference takes over the test side's undefined bytes (trimmed, or of a failed write). Raises
        Stopped, and OSError if the reference fails.
        """
        self._bytes, self._adopt = 0, adopt
        deadline = None if seconds is None else time.monotonic() + seconds
        try:
            with bar(label, where.total()) as self._progress:
                self._run(self._until(deadline, self._pieces(where)))
        finally:
            self._in_flight.clear()  # answers that still come are too late
        return self._bytes

    def _run(self, pieces: Iterator[Piece]) -> None:
        sides, in_flight = self._sides, self._in_flight
        while True:
            while len(in_flight) < DEPTH and self._lost is None:
                piece = self._again.popleft() if self._again else next(pieces, None)
                if piece is None:
                    break
                start, end, _ = piece
                in_flight[start] = piece
                sides.test.submit(
                    Kind.READ, 0, start, end - start, None, partial(self._done, piece)
                )
            sides.test.kick()
            if self._lost is not None:
                raise Stopped(self._lost)
            if in_flight:
                sides.wait(_question(min(in_flight)))
            elif not self._again:
                return

    def _done(self, piece: Piece, error: int, data: Data | None, _: Extents) -> None:
        """Compare what was read."""
        start, end, is_data = piece
        if self._in_flight.pop(start, None) is None:
            return
        if error == CONNECTION_LOST:
            self._lost = self._lost or Failed(_question(start), error)
            return
        if error:
            self._narrow(piece, error)
            return
        assert data is not None
        length = end - start
        self._bytes += length
        self._found.read += length
        self._progress(length)
        if is_data:
            expected = self._sides.reference.read(start, length)
        else:
            expected = self._zeroes if length == self._chunk else self._zeroes[:length]
        if expected == data:
            return
        comparison = self._sides.comparison
        if self._adopt:
            for first, last in comparison.undefined(start, end):
                self._sides.reference.execute(
                    Kind.WRITE, 0, first, last - first, data[first - start : last - start]
                )
        for first, last in comparison.differences(expected, data, start):
            where = slice(first - start, last - start)
            self._found.differs(first, bytes(expected[where]), bytes(data[where]))

    def _narrow(self, piece: Piece, error: int) -> None:
        """Read the halves of a piece that cannot be read, or note it."""
        start, end, is_data = piece
        step = max(UNREADABLE, self._unit)
        if end - start <= step or self._narrowed >= MAX_NARROWING:
            self._found.unreadable(start, end, error)
            self._bytes += end - start
            return
        self._narrowed += 1
        middle = start + max(step, (end - start) // 2 // step * step)
        self._again += [(start, middle, is_data), (middle, end, is_data)]

    def _pieces(self, where: RangeSet) -> Iterator[Piece]:
        """Cut ranges into pieces of at most a chunk, which are multiples of the driver's block
        size, even if the ranges and the reference's holes are not."""
        unit, chunk, reference = self._unit, self._chunk, self._sides.reference

        def cut(start: int, end: int, is_data: bool) -> Iterator[Piece]:
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

    @staticmethod
    def _until(deadline: float | None, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """Yield the pieces until the time is over."""
        for piece in pieces:
            if deadline is not None and time.monotonic() > deadline:
                return
            yield piece


def _question(start: int) -> str:
    return f"a read of the image at sector {start // SECTOR}"
