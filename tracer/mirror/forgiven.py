"""Errors that the user allows, such as ENOSPC of a store that is full by design.

An op that failed this way may have done its work in part: each byte of its range may be old or new.
So the test side is read, and the reference takes over what it holds. From then on each byte has one
right value again. The reference must not have done the op yet.
"""

from collections.abc import Callable, Iterator
from functools import partial

from tracer.disk import sparse
from tracer.disk.device import Data, Device
from tracer.disk.file import FileDevice
from tracer.mirror.comparison import Comparison
from tracer.mirror.difference import Difference
from tracer.op import SECTOR, Buffer, Extents, Fault, Kind, Op

PIECE = 2 << 20
"""The most bytes in a read."""


class Forgiven:
    """Reads the range of a failed op and brings the reference in line with it.

    ``done`` gets what differs: bytes that are neither old nor new.
    """

    def __init__(
        self,
        reference: FileDevice,
        test: Device,
        comparison: Comparison,
        op: Op,
        data: Buffer | None,
        done: Callable[[list[Difference]], None],
    ) -> None:
        self._reference = reference
        self._test = test
        self._comparison = comparison
        self._op = op
        self._data = data
        self._done = done
        self._wrong: list[Difference] = []
        self._pieces = self._places()

    def next(self) -> None:
        """Read the next piece, or report."""
        piece = next(self._pieces, None)
        if piece is None:
            self._done(self._wrong)
            return
        start, end = piece
        self._test.submit(
            int(Kind.READ), 0, start, end - start, None, partial(self._read, start, end)
        )
        self._test.kick()

    def _places(self) -> Iterator[tuple[int, int]]:
        """Yield the pieces that may have changed: where the reference has zeroes, an op that zeroes
        changes nothing."""
        op = self._op
        held = [(op.offset, op.end)]
        if self._data is None:
            held = sparse.data(self._reference.fd, op.offset, op.end)
        unit = self._test.export.sizes.minimum
        for first, last in held:
            first = max(first // unit * unit, op.offset)
            last = min(-(-last // unit) * unit, op.end)
            for start in range(first, last, PIECE):
                yield start, min(start + PIECE, last)

    def _read(self, start: int, end: int, error: int, actual: Data | None, _: Extents) -> None:
        if error:  # the range stays unknown
            self._comparison.unknown.add(start, end)
        elif actual is not None:
            self._adopt(start, end, bytes(actual))
        self.next()

    def _adopt(self, start: int, end: int, actual: bytes) -> None:
        op, old = self._op, self._reference.read(start, end - start)
        if actual == old:
            return
        new = bytes(end - start)
        if self._data is not None:
            new = bytes(self._data[start - op.offset : end - op.offset])
        if actual != new:
            self._check(start, old, new, actual)
        self._reference.execute(int(Kind.WRITE), 0, start, end - start, actual)

    def _check(self, start: int, old: bytes, new: bytes, actual: bytes) -> None:
        """Note the sectors that hold a byte which is neither old nor new."""
        for at in range(0, len(actual), SECTOR):
            part = slice(at, at + SECTOR)
            was, wanted, holds = old[part], new[part], actual[part]
            if holds in (was, wanted):
                continue
            # what both allow is taken from what the sector holds: the rest is wrong
            right = bytes(
                c if c in (a, b) else b for a, b, c in zip(was, wanted, holds, strict=True)
            )
            first, last = start + at, start + at + len(holds)
            if self._comparison.differences(right, holds, first):
                self._wrong.append(
                    Difference(
                        self._op, Fault.DATA, first, last - first,
                        expected=right, actual=holds, ranges=((first, last),),
                    )
                )  # fmt: skip
