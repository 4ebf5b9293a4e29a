"""A recording's ops counted in cells of time and offset, in memory that the number of ops does not grow.

polars counts, batch by batch; only the cells that have something are kept.
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
    """The guest's ops in it."""

    @property
    def end(self) -> int:
        return self.start + self.width * self.columns

    @property
    def ns(self) -> int:
        return self.end - self.start

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Where the columns begin, and where the last one ends."""
        return np.linspace(self.start, self.end, self.columns + 1)

    def column(self, time: pl.Expr) -> pl.Expr:
        """The number of the column that a time lies in."""
        return (time - self.start) // self.width


def guest_ops(trace: Frames) -> pl.LazyFrame:
    """All but the start image's pieces, which no guest asked for."""
    return trace.ops.filter(pl.col("kind") != "start")


def times(trace: Frames, least: int, most: int, per_root: float) -> TimeBins:
    """The time from the first op's start to the last one's end, in from ``least`` to ``most`` columns:
    ``per_root`` times the square root of how many ops there are, so that few make no dust and many
    are told apart."""
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
    """The bytes of a row where a disk of ``size`` bytes is cut into at most so many: whole sectors."""
    return -(-size // (most * SECTOR)) * SECTOR


def stacked(groups: pl.DataFrame, weight: str, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """The sum of ``weight`` in each cell, from groups that each cover the cells from ``first`` to
    ``last`` of a ``column``. ``shape`` is rows and columns; row 0 has the lowest offsets."""
    rows, columns = shape
    steps = np.zeros((rows + 1, columns))
    x, value = groups["column"].to_numpy(), groups[weight].to_numpy()
    np.add.at(steps, (groups["first"].to_numpy(), x), value)
    np.subtract.at(steps, (groups["last"].to_numpy() + 1, x), value)
    return np.cumsum(steps, axis=0)[:rows]
