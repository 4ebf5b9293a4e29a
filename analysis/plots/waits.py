"""Latency over time: the lower panel of the latency picture."""

import math

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.plots import style
from analysis.plots.bins import times
from analysis.plots.subject import Subject

MAX_COLUMNS = 300
"""The most cells along the axis of time: five pixels each."""

PER_DECADE = 20
"""Cells per power of ten: the two lines are right to 12 %, about three pixels."""

QUANTILES = {"median": (0.5, "black", "-"), "99 %": (0.99, style.VERMILLION, (0, (4, 1.5)))}
"""The lines: the share of ops below, colour and dashes."""


def draw_waits(axes: Axes, subject: Subject, column: str, side: str) -> None:
    """Draw the times in ``column``, of one side, over the time at which the ops were submitted.

    A cell is darker the more ops it has. The lines are quantiles of each column of cells.
    """
    span = times(subject, 1, MAX_COLUMNS, 2)
    found = (
        subject.ops.filter(pl.col("completed").is_not_null(), pl.col(column) > 0)
        .group_by(
            column=span.column(pl.col("submitted")),
            bin=(pl.col(column).log10() * PER_DECADE).floor().cast(pl.Int64),
        )
        .agg(pl.len())
        .collect(engine="streaming")
    )
    bins = found["bin"].to_numpy()
    # whole powers of ten, so that there are at least two labels
    low = math.floor(bins.min() / PER_DECADE)
    high = math.floor(bins.max() / PER_DECADE) + 1
    cells = np.zeros(((high - low) * PER_DECADE, span.columns))
    cells[bins - low * PER_DECADE, found["column"].to_numpy()] = found["len"].to_numpy()
    # the axis counts powers of ten: an image cannot be drawn on a logarithmic axis
    axes.imshow(
        np.ma.masked_equal(cells, 0), norm=LogNorm(1, max(10, cells.max())),
        cmap=style.ramp(style.BLUE), aspect="auto", origin="lower", interpolation="nearest",
        extent=(span.start, span.end, low, high), zorder=2,
    )  # fmt: skip
    ops = cells.sum(axis=0)
    counted = np.cumsum(cells, axis=0)
    for name, (share, colour, dashes) in QUANTILES.items():
        at = (counted < share * ops - 1e-9).sum(axis=0)
        line = np.where(ops > 0, low + (at + 0.5) / PER_DECADE, np.nan)
        axes.stairs(
            line,
            span.edges,
            baseline=None,
            color=colour,
            ls=dashes,
            lw=1.3,
            label=name,
            zorder=3,
            path_effects=[withStroke(linewidth=3.5, foreground="white")],
        )
    style.set_limits(axes.set_xlim, span.start, span.end)
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda x, _: style.short(10**x, style.TIMES)))
    axes.grid(color=style.FAINT, lw=0.5, zorder=1)
    axes.tick_params(labelsize=8)
    style.time_axis(axes.xaxis, span.ns)
    style.draw_marks([axes], span.inside(subject.marks))
    axes.set_ylabel(f"latency, {side}")
    axes.legend(
        loc="lower right", bbox_to_anchor=(1, 0.98), frameon=False, fontsize=9, ncols=2,
        handlelength=2.6,
    )  # fmt: skip
    axes.set_title(
        f"every kind over time: a cell is {style.short(span.width, style.TIMES)} wide, "
        f"darker with more ops, up to {style.count(float(cells.max()))}",
        loc="left", size=9,
    )  # fmt: skip
