"""What is known about each damaged sector while the steps explain it."""

from itertools import pairwise
from typing import Any

import numpy as np

from analysis.provenance.rows import Flags, Ints, Rows, as_rows
from analysis.provenance.versions import Versions
from tracer.ranges import RangeSet
from tracer.verdict import DamageKind, Detail

CLASSES = list(DamageKind)
CODE = {damage: code for code, damage in enumerate(CLASSES)}

NEAR = 64 << 10
"""Bytes around damaged sectors that are examined too: a qcow2 cluster, within which drivers move
data."""

MAX_EXTENT = 32 << 20
"""Bytes of the longest op that is examined whole: the longest op that carries data. A zero may have
4 GiB."""


class Case:
    """The versions, the damaged rows, and the explanation of each row.

    ``kind`` is the kind of damage (an index of CLASSES, -1: not explained yet). ``op`` is the index
    of the op that the bytes came from (-1: none). ``base`` is the byte on the disk at which this
    op's data would begin: byte X of the disk holds byte X - base of the data. ``extra`` tells
    explanations of one kind apart: the op that was lost, the versions back, the index in ``torn``,
    or the distance of a shift.
    """

    def __init__(
        self, versions: Versions, rows: Rows, size: int, upto: int, culprit: int | None
    ) -> None:
        self.versions = versions
        self.rows = rows
        self.size = size
        self.culprit = culprit
        self.moment = upto - 1 if culprit is None else culprit
        """The position from which the distance of other ops in time is measured."""
        self.kind = np.full(rows.count, -1, np.int8)
        self.op: Ints = np.full(rows.count, -1, np.int64)
        self.base: Ints = np.zeros(rows.count, np.int64)
        self.extra: Ints = np.full(rows.count, -1, np.int64)
        self.torn: list[Detail] = []
        self.starts: Ints = np.append(versions.start, 0)
        """The byte at which each op begins; index -1, for no op, gives 0."""
        self.zero: Flags = np.all(rows.actual == 0, axis=1)
        self.first: Ints = np.searchsorted(rows.end, versions.start, "right")
        self.stop: Ints = np.searchsorted(rows.start, versions.end, "left")
        """Each op changed the rows ``[first, stop)``."""
        self.touching = np.flatnonzero(self.first < self.stop)
        self.last: Ints = np.full(rows.count, -1, np.int64)
        """The op whose bytes should be in each row."""
        self.before: Ints = self.last.copy()
        """The op whose bytes were in each row before ``last``."""
        self.cleared: Flags = np.zeros(rows.count, bool)
        """Whether a trim lies between ``before`` and ``last``."""
        self.mixed: Flags = np.zeros(rows.count, bool)
        """Whether any op changed only a part of the row."""
        self._paint()
        if not versions.ordered:
            self._settle()
        self._focus()

    def explain(
        self,
        rows: slice | Ints | int,
        damage: DamageKind,
        op: int | Ints,
        base: int | Ints,
        extra: Any = -1,
    ) -> None:
        """Record the explanation of some rows."""
        self.kind[rows] = CODE[damage]
        self.op[rows], self.base[rows], self.extra[rows] = op, base, extra

    @property
    def open(self) -> Flags:
        """The rows without an explanation."""
        unexplained: Flags = self.kind < 0
        return unexplained

    def are(self, damage: DamageKind) -> Flags:
        """The rows that have this kind of damage."""
        found: Flags = self.kind == CODE[damage]
        return found

    def extent(self, j: int) -> tuple[int, int]:
        """Return an op's range, or its damaged part and NEAR bytes around if it is too long."""
        start, end = int(self.versions.start[j]), int(self.versions.end[j])
        if end - start <= MAX_EXTENT:
            return start, end
        first, last = int(self.rows.start[self.first[j]]), int(self.rows.end[self.stop[j] - 1])
        return max(start, first - NEAR), min(end, last + NEAR)

    def _paint(self) -> None:
        """Find the last op that wrote each row, and the op before that."""
        versions, rows = self.versions, self.rows
        trimmed = np.zeros(rows.count, bool)
        for j in self.touching:
            a, b = self.first[j], self.stop[j]
            if versions.trim[j]:
                trimmed[a:b] = True
                continue
            self.before[a:b] = self.last[a:b]
            self.cleared[a:b] = trimmed[a:b]
            trimmed[a:b] = False
            self.last[a:b] = j
            self.mixed[a] |= versions.start[j] > rows.start[a]
            self.mixed[b - 1] |= versions.end[j] < rows.end[b - 1]

    def _settle(self) -> None:
        """Where a row should not hold what the last op wrote, find the op that won over it: the
        latest whose bytes the row should hold. Raises TraceError."""
        rows = self.rows
        open_ = (self.last >= 0) & ~self.mixed
        left = np.count_nonzero(open_)
        for j in map(int, self.touching[::-1]):
            if self.versions.trim[j] or not left:
                continue
            own = self.first[j] + np.flatnonzero(open_[self.first[j] : self.stop[j]])
            cuts = np.flatnonzero(~rows.joined[own] | (np.diff(own, prepend=-2) != 1))
            for a, b in pairwise([*map(int, cuts), len(own)]):
                piece = own[a:b]
                start, end = int(rows.start[piece[0]]), int(rows.end[piece[-1]])
                wrote = as_rows(self.versions.data(j, start, end), start)
                right = piece[(wrote == rows.expected[piece]).all(axis=1)]
                open_[right] = False
                left -= len(right)
                won = right[self.last[right] != j]
                self.before[won], self.last[won], self.cleared[won] = self.last[won], j, False

    def _focus(self) -> None:
        """Restrict ``versions`` to the area around the damage and the last ops that wrote there."""
        rows, ranges = self.rows, RangeSet()
        for first, stop in rows.runs(np.ones(rows.count, bool)):
            start, end = int(rows.start[first]), int(rows.end[stop - 1])
            ranges.add(max(0, start - 2 * NEAR), min(self.size, end + 2 * NEAR))
        for j in np.unique(self.last[self.last >= 0]):
            ranges.add(*self.extent(int(j)))
        self.versions.focus(ranges)
