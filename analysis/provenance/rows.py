"""The damaged sectors, as rows of bytes."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tracer.candidates.evidence import Evidence
from tracer.op import SECTOR

Ints = npt.NDArray[np.int64]
Octets = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]


class Rows:
    """The damaged sectors in the evidence, each a row of 512 bytes.

    A sector that is only partly in the evidence is padded with zeroes. Sectors of the evidence that
    are right are left out.
    """

    def __init__(self, evidence: Sequence[Evidence]) -> None:
        starts, ends = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        expected, actual = [np.empty((0, SECTOR), np.uint8)], [np.empty((0, SECTOR), np.uint8)]
        for piece in sorted(evidence, key=lambda piece: piece.offset):
            good, bad = as_rows(piece.expected, piece.offset), as_rows(piece.actual, piece.offset)
            wrong = np.flatnonzero((good != bad).any(axis=1))
            first = (piece.offset // SECTOR + wrong) * SECTOR
            starts.append(np.maximum(first, piece.offset))
            ends.append(np.minimum(first + SECTOR, piece.offset + len(piece.expected)))
            expected.append(good[wrong])
            actual.append(bad[wrong])
        self.start: Ints = np.concatenate(starts)
        self.end: Ints = np.concatenate(ends)
        self.expected: Octets = np.concatenate(expected)
        self.actual: Octets = np.concatenate(actual)
        self.count = len(self.start)
        self.whole: Flags = self.end - self.start == SECTOR
        self.joined: Flags = np.append(False, self.start[1:] == self.end[:-1])[: self.count]
        """Whether a row begins where the row before it ends."""

    def bytes(self, row: int) -> bytes:
        """Return what a row holds, without the padding."""
        first = int(self.start[row]) % SECTOR
        length = int(self.end[row] - self.start[row])
        return self.actual[row, first : first + length].tobytes()

    def first_byte(self, row: int) -> int:
        """Return the byte on the disk of a row's first column."""
        return int(self.start[row]) // SECTOR * SECTOR

    def runs(self, chosen: Flags) -> list[tuple[int, int]]:
        """Return the chosen rows as ranges ``[first, stop)`` of rows that lie end to end."""
        breaks = np.flatnonzero(~self.joined | ~chosen | ~np.roll(chosen, 1))
        edges = [*map(int, breaks), self.count]
        return [(a, b) for a, b in pairwise(edges) if chosen[a]]


def as_rows(data: bytes, offset: int) -> Octets:
    """Return bytes from ``offset`` of the disk as rows of one sector, padded with zeroes."""
    lead = offset % SECTOR
    rows = np.zeros((-(-(lead + len(data)) // SECTOR), SECTOR), np.uint8)
    rows.reshape(-1)[lead : lead + len(data)] = np.frombuffer(data, np.uint8)
    return rows
