"""Sets of bytes on the disk, kept as ranges."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from tracer.op import SECTOR


class RangeSet:
    """Disjoint, sorted, non-touching ranges ``[start, end)`` of bytes."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in ranges:
            self.add(start, end)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeSet):
            return NotImplemented
        return self._starts == other._starts and self._ends == other._ends

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"RangeSet({list(self)})"

    def copy(self) -> "RangeSet":
        """Return an independent copy."""
        twin = RangeSet()
        twin._starts, twin._ends = self._starts.copy(), self._ends.copy()
        return twin

    def total(self) -> int:
        """Return the number of bytes in the set."""
        return sum(self._ends) - sum(self._starts)

    def add(self, start: int, end: int) -> None:
        """Add ``[start, end)``. Ranges that touch are merged."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def remove(self, start: int, end: int) -> None:
        """Remove ``[start, end)``."""
        if start >= end:
            return
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        if first >= last:
            return
        starts, ends = [], []
        if self._starts[first] < start:
            starts.append(self._starts[first])
            ends.append(start)
        if self._ends[last - 1] > end:
            starts.append(end)
            ends.append(self._ends[last - 1])
        self._starts[first:last] = starts
        self._ends[first:last] = ends

    def within(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of ``[start, end)`` that are in the set, in order."""
        index = bisect_right(self._ends, start)
        while start < end and index < len(self._starts) and self._starts[index] < end:
            yield max(start, self._starts[index]), min(end, self._ends[index])
            index += 1

    def overlaps(self, start: int, end: int) -> bool:
        """Whether any byte of ``[start, end)`` is in the set."""
        index = bisect_right(self._ends, start)
        return start < end and index < len(self._starts) and self._starts[index] < end

    def outside(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of ``[start, end)`` that are not in the set, in order."""
        for inner_start, inner_end in self.within(start, end):
            if start < inner_start:
                yield start, inner_start
            start = inner_end
        if start < end:
            yield start, end

    def without(self, other: "RangeSet") -> "RangeSet":
        """Return the parts of the set that are not in another."""
        return RangeSet(part for start, end in self for part in other.outside(start, end))

    def aligned(self, unit: int) -> "RangeSet":
        """Return the set with each range widened to multiples of ``unit`` bytes."""
        return RangeSet((start // unit * unit, -(-end // unit) * unit) for start, end in self)

    def sectors(self) -> Iterator[tuple[int, int]]:
        """Yield the set widened to sectors: ``(first sector, number of sectors)``, in order."""
        for start, end in self.aligned(SECTOR):
            yield start // SECTOR, (end - start) // SECTOR


def in_sectors(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut the bytes ``[start, end)`` at sector boundaries."""
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        yield start, stop
        start = stop
