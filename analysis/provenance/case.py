"""What is known of each damaged sector while it is being explained."""

from typing import Any

import numpy as np

from analysis.provenance.rows import Flags, Ints, Rows
from analysis.provenance.versions import Versions
from tracer.ranges import RangeSet
from tracer.verdict import DamageKind, Detail

CLASSES = list(DamageKind)
CODE = {damage: code for code, damage in enumerate(CLASSES)}

NEAR = 64 << 10
"""Bytes around damaged sectors that are looked at with them: a cluster of qcow2, within which drivers
move things."""

MAX_EXTENT = 32 << 20
"""Bytes of an op that are looked at as a whole: as many as one that carries data can have. A write
zeroes may have 4 GiB."""


class Case:
    """Versions, rows, and per row what has been found out.

    ``kind`` is the kind of damage (an index of CLASSES, -1: none yet). ``op`` is the index of the op
    that the bytes came from (-1: none), and ``base`` where on the disk its data would begin if they went
    on from the row to both sides: byte X of the disk holds byte X - base of the data. ``extra`` is what
    else tells explanations of one kind apart: the op that was lost, versions back, the number in
    ``torn``, the distance of a shift.
    """

    def __init__(
        self, versions: Versions, rows: Rows, size: int, upto: int, culprit: int | None
    ) -> None:
        self.versions = versions
        self.rows = rows
        self.size = size
        self.culprit = culprit
        self.moment = upto - 1 if culprit is None else culprit
        """The position that other ops are near to in time, or not."""
        self.kind = np.full(rows.count, -1, np.int8)
        self.op: Ints = np.full(rows.count, -1, np.int64)
        self.base: Ints = np.zeros(rows.count, np.int64)
        self.extra: Ints = np.full(rows.count, -1, np.int64)
        self.torn: list[Detail] = []
        self.starts: Ints = np.append(versions.start, 0)
        """Where each op begins; for "none", -1, this is 0."""
        self.zero: Flags = np.all(rows.actual == 0, axis=1)
        self.first: Ints = np.searchsorted(rows.end, versions.start, "right")
        self.stop: Ints = np.searchsorted(rows.start, versions.end, "left")
        """An op changed the rows ``first`` up to ``stop``."""
        self.touching = np.flatnonzero(self.first < self.stop)
        self.last: Ints = np.full(rows.count, -1, np.int64)
        """The op whose bytes should be in a row."""
        self.before: Ints = self.last.copy()
        """The one whose bytes were there before."""
        self.cleared: Flags = np.zeros(rows.count, bool)
        """Whether a trim lies between the two."""
        self.mixed: Flags = np.zeros(rows.count, bool)
        """Whether any op changed only a part of a row."""
        self._paint()
        self._focus()

    def mark(
        self,
        rows: slice | Ints | int,
        damage: DamageKind,
        op: int | Ints,
        base: int | Ints,
        extra: Any = -1,
    ) -> None:
        """Explain rows."""
        self.kind[rows] = CODE[damage]
        self.op[rows], self.base[rows], self.extra[rows] = op, base, extra

    @property
    def open(self) -> Flags:
        """The rows without an explanation."""
        unexplained: Flags = self.kind < 0
        return unexplained

    def are(self, damage: DamageKind) -> Flags:
        """The rows that have this one."""
        those: Flags = self.kind == CODE[damage]
        return those

    def extent(self, j: int) -> tuple[int, int]:
        """An op's range; of one that is too long to be looked at whole, the damage and what is near."""
        start, end = int(self.versions.start[j]), int(self.versions.end[j])
        if end - start <= MAX_EXTENT:
            return start, end
        first, last = int(self.rows.start[self.first[j]]), int(self.rows.end[self.stop[j] - 1])
        return max(start, first - NEAR), min(end, last + NEAR)

    def _paint(self) -> None:
        """Who wrote each row, and who before that."""
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

    def _focus(self) -> None:
        """Tell ``versions`` what it will be asked about: around the damage, and the whole of what should
        be there."""
        rows, ranges = self.rows, RangeSet()
        for first, stop in rows.runs(np.ones(rows.count, bool)):
            start, end = int(rows.start[first]), int(rows.end[stop - 1])
            ranges.add(max(0, start - 2 * NEAR), min(self.size, end + 2 * NEAR))
        for j in np.unique(self.last[self.last >= 0]):
            ranges.add(*self.extent(int(j)))
        self.versions.focus(ranges)
