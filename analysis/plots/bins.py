"""Counts of ops in cells of time and offset.

polars counts batch by batch, and only cells that are not empty are kept. Memory does not grow with
the number of ops.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from analysis.plots.subject import Subject
from tracer.op import SECTOR

Counts = npt.NDArray[np.int64]

ENOUGH = 25
"""Ops in a cell that make chance a fifth of it (the square root): cells with fewer look like noise
beside each other."""

CROWDED = 0.3
"""The share of cells with ops above which neighbours are compared, rather than seen one by one."""

MERGED = ((1, 1), (2, 1), (2, 2), (3, 2), (4, 2), (6, 2))
"""How many cells may become one: columns, rows. More columns than rows, since a line in a picture
is mostly a place on the disk, and must stay thin."""

_STEP = 12
"""Numbers of columns are multiples of this, so that merged columns are all as wide."""


@dataclass(frozen=True, slots=True)
class TimeBins:
    """Time in ns, cut into columns of ``width`` ns each."""

    start: int
    width: int
    columns: int
    ops: int
    """The ops in this time."""

    @property
    def end(self) -> int:
        return self.start + self.width * self.columns

    @property
    def ns(self) -> int:
        return self.end - self.start

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """The starts of the columns, and the end of the last column."""
        return np.linspace(self.start, self.end, self.columns + 1)

    def column(self, time: pl.Expr) -> pl.Expr:
        """Return the number of the column in which a time lies."""
        return (time - self.start) // self.width

    def inside(self, marks: pl.DataFrame) -> pl.DataFrame:
        """Return the marks in this time, from the time before the first op on if it is early."""
        return marks.filter(pl.col("time").is_between(self.start, self.end))

    def merged(self, columns: int) -> "TimeBins":
        """Return the same time, with that many columns made one."""
        return TimeBins(self.start, self.width * columns, -(-self.columns // columns), self.ops)


def times(subject: Subject, least: int, most: int, per_root: float) -> TimeBins:
    """Return the time from the first op's submission to the last op's end, cut into columns.

    There are ``per_root`` columns times the square root of the number of ops, but at least
    ``least`` and at most ``most``: few ops then do not look like dust, and many do not merge.
    """
    begun, ended, ops = (
        subject.ops.select(
            pl.col("submitted").min().alias("begun"),
            pl.max_horizontal(pl.col("submitted").max(), pl.col("completed").max()).alias("ended"),
            pl.len().alias("ops"),
        )
        .collect(engine="streaming")
        .row(0)
    )
    if not ops:
        return TimeBins(0, 1, 1, 0)
    columns = min(most, max(least, round(per_root * math.sqrt(ops))))
    columns -= columns % _STEP if columns > _STEP else 0
    width = -(-(ended - begun + 1) // columns)
    return TimeBins(begun, width, columns, ops)


def part(size: int, most: int) -> int:
    """Return the bytes of a row, in whole sectors, that cut ``size`` bytes into ``most`` rows: one
    sector at least, also of an empty disk."""
    return -(-max(size, 1) // (most * SECTOR)) * SECTOR


def stacked(groups: pl.DataFrame, weight: str, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return the sum of ``weight`` in each cell.

    Each group covers the cells from ``first`` to ``last`` of a ``column``. ``shape`` is (rows,
    columns). Row 0 has the lowest offsets.
    """
    rows, columns = shape
    steps = np.zeros((rows + 1, columns))
    x, value = groups["column"].to_numpy(), groups[weight].to_numpy()
    np.add.at(steps, (groups["first"].to_numpy(), x), value)
    np.subtract.at(steps, (groups["last"].to_numpy() + 1, x), value)
    return np.cumsum(steps, axis=0)[:rows]


def too_fine(panels: Iterable[npt.NDArray[np.float64]]) -> tuple[int, int]:
    """Return how many columns and rows of cells should become one, so that crowded panels do not
    look like noise. ``panels`` are the ops in each cell."""
    wanted = 1.0
    for counts in panels:
        there = counts[counts > 0]
        if len(there) > CROWDED * counts.size:
            wanted = max(wanted, ENOUGH / float(np.median(there)))
    return next(((x, y) for x, y in MERGED if x * y >= wanted), MERGED[-1])
