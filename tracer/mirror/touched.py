"""Which parts of a disk ops came to, so that a comparison can read these and no more.

Noting an op is on the data path. So places are kept in grains, as bits: an op costs the same
whatever else was touched.
"""

from tracer.op import CARRIES_DATA, Op
from tracer.ranges import RangeSet

GRAIN = 1 << 16
"""Bytes. It is the usual cluster of image formats: what a driver moves together is compared
together, though the op came to a part of it only."""

_GRAIN_BITS = GRAIN.bit_length() - 1

_PAGE_BITS = 10
"""Grains in a page, as a power of two: a page is an int of 164 bytes. Random ops touch a page each,
so that a million of them on a disk of 15 TiB (245,760 pages) take 65 MB."""

_PAGE = 1 << _PAGE_BITS
_FULL = (1 << _PAGE) - 1

SHORT = 4 * GRAIN
"""Bytes. A longer write zeroes or trim is not compared whole on its own account: it carries no
data, so it costs the driver next to nothing, whatever its length."""


class Grains:
    """A set of grains of the disk."""

    __slots__ = ("_pages",)

    def __init__(self) -> None:
        self._pages: dict[int, int] = {}  # the bits of the grains in each page

    def copy(self) -> "Grains":
        """Return an independent copy."""
        twin = Grains()
        twin._pages = self._pages.copy()
        return twin

    def add(self, start: int, end: int) -> None:
        """Add the grains of the bytes ``[start, end)``."""
        if start >= end:
            return
        pages = self._pages
        first, last = start >> _GRAIN_BITS, (end - 1) >> _GRAIN_BITS
        if first == last:  # nearly every op
            page = first >> _PAGE_BITS
            pages[page] = pages.get(page, 0) | 1 << (first & (_PAGE - 1))
            return
        for page in range(first >> _PAGE_BITS, (last >> _PAGE_BITS) + 1):
            at = page << _PAGE_BITS
            low, high = max(first - at, 0), min(last - at + 1, _PAGE)
            bits = _FULL if high - low == _PAGE else ((1 << (high - low)) - 1) << low
            pages[page] = bits if bits == _FULL else pages.get(page, 0) | bits

    def ranges(self) -> RangeSet:
        """Return the set in bytes. It may go beyond the end of the disk, to the end of a grain."""
        found = RangeSet()
        for page in sorted(self._pages):
            bits, at = self._pages[page], page << _PAGE_BITS
            while bits:
                skipped = (bits & -bits).bit_length() - 1
                bits >>= skipped
                run = (~bits & (bits + 1)).bit_length() - 1  # the ones at the low end
                bits >>= run
                at += skipped
                found.add(at << _GRAIN_BITS, (at + run) << _GRAIN_BITS)
                at += run
        return found


class Touched:
    """Where ops that may change data came to.

    ``data`` has where data came, and the ends of every op. ``cleared`` has the long write zeroes
    and trims: what they cleared of ``data`` is still in there.
    """

    __slots__ = ("cleared", "data")

    def __init__(self) -> None:
        self.data = Grains()
        self.cleared = Grains()

    def copy(self) -> "Touched":
        """Return an independent copy."""
        twin = Touched()
        twin.data, twin.cleared = self.data.copy(), self.cleared.copy()
        return twin

    def note(self, op: Op) -> None:
        """Note an op that may have changed its range."""
        start, end = op.offset, op.offset + op.length
        if op.length <= SHORT or op.kind in CARRIES_DATA:
            self.data.add(start, end)
        else:
            self.data.add(start, start + 1)
            self.data.add(end - 1, end)
            self.cleared.add(start, end)
