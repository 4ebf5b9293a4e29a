"""A map of the disk: which op last wrote each byte that is not zero."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator

CHUNK = 1 << 20
"""Bytes of the disk that share a table. A change in the middle of a table moves the rest of it, so
tables must be small."""

_BITS = 21
"""Bits for a position in a chunk, from 0 to CHUNK inclusive."""


class LastWriters:
    """A map from bytes of the disk to seqs, as disjoint ranges.

    Takes 16 bytes of memory per range. The number of ranges depends on how the data on the disk is
    fragmented, not on the number of ops.
    """

    def __init__(self) -> None:
        # by chunk: the ranges (start << _BITS | end, ascending), and the seq of each
        self._chunks: dict[int, tuple[array[int], array[int]]] = {}

    def write(self, start: int, end: int, seq: int) -> None:
        """Note that op ``seq`` wrote the bytes ``[start, end)``."""
        for chunk, first, last in _parts(start, end):
            if chunk not in self._chunks:
                self._chunks[chunk] = array("Q"), array("Q")
            self._replace(chunk, first, last, [(first, last, seq)])

    def zero(self, start: int, end: int) -> None:
        """Note that the bytes ``[start, end)`` are zeroes now."""
        for chunk, first, last in _parts(start, end):
            if last - first == CHUNK:
                self._chunks.pop(chunk, None)
            elif chunk in self._chunks:
                self._replace(chunk, first, last, [])

    def within(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield the ranges in ``[start, end)``, in order, as ``(start, end, seq)``. Adjacent ranges
        may have the same seq."""
        for chunk, first, last in _parts(start, end):
            if chunk not in self._chunks:
                continue
            places, seqs = self._chunks[chunk]
            at = chunk * CHUNK
            for index in range(self._first(places, first), len(places)):
                a, b = _unpack(places[index])
                if a >= last:
                    break
                yield at + max(a, first), at + min(b, last), seqs[index]

    def _replace(self, chunk: int, first: int, last: int, new: list[tuple[int, int, int]]) -> None:
        """Replace everything in ``[first, last)`` of a chunk by ``new`` ranges."""
        places, seqs = self._chunks[chunk]
        begin = self._first(places, first)
        end = bisect_left(places, last << _BITS, begin)
        if begin < end:
            a, _ = _unpack(places[begin])
            _, b = _unpack(places[end - 1])
            if a < first:
                new = [(a, first, seqs[begin]), *new]
            if b > last:
                new = [*new, (last, b, seqs[end - 1])]
        places[begin:end] = array("Q", [a << _BITS | b for a, b, _ in new])
        seqs[begin:end] = array("Q", [seq for _, _, seq in new])

    @staticmethod
    def _first(places: "array[int]", start: int) -> int:
        """Return the index of the first range that ends after ``start``."""
        index = bisect_left(places, start << _BITS)
        if index and _unpack(places[index - 1])[1] > start:
            index -= 1
        return index


def _unpack(place: int) -> tuple[int, int]:
    """Return the start and the end of a range in a chunk."""
    return place >> _BITS, place & ((1 << _BITS) - 1)


def _parts(start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Split ``[start, end)`` at chunk borders: yield each chunk's number, and the part's start and
    end as positions in the chunk."""
    for chunk in range(start // CHUNK, -(-end // CHUNK)):
        at = chunk * CHUNK
        yield chunk, max(start - at, 0), min(end - at, CHUNK)
