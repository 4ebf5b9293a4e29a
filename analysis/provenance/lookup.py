"""Which of a few sectors' contents occur where in all that was ever written.

A payload block's sectors are hashed in one numpy call each and compared with the few hashes that are
wanted; what has the right hash is then compared byte by byte. No loop here is per sector.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.provenance.rows import Ints, Octets
from tracer.op import SECTOR

WORDS = SECTOR // 8

Words = npt.NDArray[np.uint64]

Blocks = Callable[[Callable[[int, int], bool]], Iterator[tuple[int, bytes]]]
"""Walks over a stream of bytes: gives (position, bytes) for each block whose position and length the
function that it gets asks for."""


def _powers(base: int, count: int) -> Words:
    return np.array([pow(base, power, 1 << 64) for power in range(1, count + 1)], np.uint64)


_WEIGHTS = _powers(0x9E3779B97F4A7C15, WORDS)
"""Powers of an odd number (2^64 over the golden ratio, as in Knuth's multiplicative hashing): a sector's
hash is its 64 words as coefficients of a polynomial, modulo 2^64. One multiplication a word; 12 GiB/s
where BLAKE3 makes a tenth of that on single sectors."""


def sector_hashes(sectors: Words) -> Words:
    """One 64-bit number for each row of 64 words. Equal rows have equal ones; the reverse must be
    checked."""
    hashes: Words = sectors @ _WEIGHTS
    return hashes


@dataclass(frozen=True, slots=True)
class Hits:
    """Where contents were found: ``place`` are positions in the stream, ascending; ``content`` says
    which of the wanted ones is there."""

    place: Ints
    content: Ints

    def at(self, places: Ints) -> Ints:
        """Which content was found at each place, -1 for none."""
        if not len(self.place):
            return np.full(len(places), -1)
        index = np.searchsorted(self.place, places).clip(max=len(self.place) - 1)
        return np.where(self.place[index] == places, self.content[index], -1)


def find(
    blocks: Blocks, starts: Ints, ends: Ints, wanted: Octets, done: Callable[[int], None]
) -> Hits:
    """Find every occurrence of the sectors in ``wanted`` (n rows of 512 bytes, all different).

    Looked at are the sectors that lie end to end from each of ``starts`` on, up to ``ends``; these need
    not be multiples of 512 apart. Where two such spans are aligned alike, what is between them is looked
    at too: ask whose a place is before using it. ``done`` is told how many bytes were looked at. Memory:
    one block and 16 bytes for each occurrence.
    """
    targets = np.ascontiguousarray(wanted).view("<u8")
    hashes = sector_hashes(targets)
    order = np.argsort(hashes, kind="stable")
    hashes, targets = hashes[order], targets[order]
    runs = _runs(starts, ends)

    def asked(position: int, length: int) -> bool:
        first, last = _between(runs, position, position + length)
        return first < last

    places, contents = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for position, data in blocks(asked):
        for run in range(*_between(runs, position, position + len(data))):
            begin = int(runs[0][run])
            begin = max(begin, position + (begin - position) % SECTOR)
            count = (min(int(runs[1][run]), position + len(data)) - begin) // SECTOR
            if count <= 0:
                continue
            sectors = np.frombuffer(data, "<u8", count * WORDS, begin - position).reshape(-1, WORDS)
            found = sector_hashes(sectors)
            index = np.searchsorted(hashes, found).clip(max=len(hashes) - 1)
            rows = np.flatnonzero(hashes[index] == found)
            rows = rows[(sectors[rows] == targets[index[rows]]).all(axis=1)]
            places.append(begin + rows * SECTOR)
            contents.append(order[index[rows]])
        done(len(data))
    place, content = np.concatenate(places), np.concatenate(contents)
    # runs of different alignment may overlap in a trace that was not made by the recorder
    by_place = np.argsort(place, kind="stable")
    return Hits(place[by_place], content[by_place])


def _runs(starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """Neighbouring spans whose sectors are aligned alike, as one: where they start and end. In a trace
    of aligned ops that is a single run through all blocks."""
    if not len(starts):
        return starts, ends
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], ends[order]
    first = np.flatnonzero(np.diff(starts % SECTOR, prepend=-1))
    return starts[first], np.maximum.accumulate(np.maximum.reduceat(ends, first))


def _between(runs: tuple[Ints, Ints], start: int, end: int) -> tuple[int, int]:
    """The first of the runs that touch ``[start, end)``, and the one after the last."""
    first = int(np.searchsorted(runs[1], start, "right"))
    return first, max(first, int(np.searchsorted(runs[0], end, "left")))
