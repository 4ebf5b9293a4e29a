"""Which op wrote each byte last, of those that are not zero anyway."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator

CHUNK = 1 << 20
"""Bytes of the disk that share a table: few enough for a change in the middle of it to be cheap."""

_BITS = 21
"""Bits for a position in a chunk: its end is one of them."""


class LastWriters:
    """A map from bytes of the disk to op numbers, as disjoint ranges. Takes 16 bytes per range, so
    memory for what is on the disk in pieces, however many ops it took to write that."""

    def __init__(self) -> None:
        # by chunk: where ranges are (start << _BITS | end, ascending), and whose they are
        self._chunks: dict[int, tuple[array[int], array[int]]] = {}

    def write(self, start: int, end: int, seq: int) -> None:
        """Say that op ``seq`` wrote ``[start, end)``."""
        for chunk, first, last in _parts(start, end):
            if chunk not in self._chunks:
                self._chunks[chunk] = array("Q"), array("Q")
            self._replace(chunk, first, last, [(first, last, seq)])

    def zero(self, start: int, end: int) -> None:
        """Say that ``[start, end)`` are zeroes now."""
        for chunk, first, last in _parts(start, end):
            if last - first == CHUNK:
                self._chunks.pop(chunk, None)
            elif chunk in self._chunks:
                self._replace(chunk, first, last, [])

    def within(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The ranges in ``[start, end)``, in order: ``(start, end, seq)``. Ranges may touch others of
        the same op."""
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
        """Put other ranges in the place of all that is in ``[first, last)``."""
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
        """The index of the first range that ends after ``start``."""
        index = bisect_left(places, start << _BITS)
        if index and _unpack(places[index - 1])[1] > start:
            index -= 1
        return index


def _unpack(place: int) -> tuple[int, int]:
    return place >> _BITS, place & ((1 << _BITS) - 1)


def _parts(start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """``[start, end)`` by chunk: its number, and the part as positions in it."""
    for chunk in range(start // CHUNK, -(-end // CHUNK)):
        at = chunk * CHUNK
        yield chunk, max(start - at, 0), min(end - at, CHUNK)
