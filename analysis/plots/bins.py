"""Counts of a recording's ops in cells of time and offset.

polars counts batch by batch, and only cells that are not empty are kept. Memory does not grow with
the number of ops.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from analysis.frames.frames import Frames
from tracer.op import SECTOR

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TimeBins:
    """A recording's time in ns, cut into columns of ``width`` ns each."""

    start: int
    width: int
    columns: int
    ops: int
    """The guest's ops in this time."""

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


def guest_ops(trace: Frames) -> pl.LazyFrame:
    """Return all ops except the pieces of the start image, which are not requests of a guest."""
    return trace.ops.filter(pl.col("kind") != "start")


def times(trace: Frames, least: int, most: int, per_root: float) -> TimeBins:
    """Return the time from the first op's submission to the last op's end, cut into columns.

    There are ``per_root`` columns times the square root of the number of ops, but at least
    ``least`` and at most ``most``: few ops then do not look like dust, and many do not merge.
    """
    begun, ended, ops = (
        guest_ops(trace)
        .select(
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
