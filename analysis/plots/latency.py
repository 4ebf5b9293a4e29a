"""The latency picture: cumulative distributions by kind, test against reference."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from analysis.frames.frames import Frames
from analysis.plots import style
from analysis.plots.bins import guest_ops

PER_DECADE = 200
"""Bins per power of ten: values are right to 1.2 %, half a pixel."""

SIDES = {"test": "test_ns", "reference": "reference_ns"}
"""The column of Frames.ops for each side."""

_ACROSS = 3
"""Panels side by side."""

TITLE = "latency, test against reference"


@dataclass(frozen=True, slots=True)
class Spread:
    """The latencies of one kind of op on one side."""

    bins: npt.NDArray[np.int64]
    """The bins that are not empty, ascending. Bin b begins at 10 ** (b / PER_DECADE) ns."""
    counts: npt.NDArray[np.int64]
    """The number of ops in each bin."""
    longest: int
    """The longest latency in ns."""

    @property
    def ops(self) -> int:
        return int(self.counts.sum())

    @property
    def steps(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The distribution: times in ns, and the share of ops that took no longer."""
        ends = np.minimum(10 ** ((self.bins + 1) / PER_DECADE), self.longest)
        return ends, np.cumsum(self.counts) / self.ops

    def quantile(self, share: float) -> float:
        """The time in ns that a ``share`` of ops did not exceed, up to 1.2 % too long."""
        ends, shares = self.steps
        return float(ends[np.searchsorted(shares, share - 1e-12)])


def latency(trace: Frames) -> Figure:
    """Draw the cumulative distribution of latencies on a logarithmic scale, a panel for each kind.

    Ops that never completed and times of 0 (not measured) are left out. Memory does not grow with
    the number of ops. Raises TraceError.
    """
    found = {side: _spreads(trace, column) for side, column in SIDES.items()}
    kinds = [kind for kind in style.ORDER if any(kind in spreads for spreads in found.values())]
    if not kinds:
        return style.nothing(trace, TITLE, "there are no ops whose time was measured")
    down = math.ceil(len(kinds) / _ACROSS)
    figure = style.new_figure(trace, TITLE, 3.4 * down + 1.1, "to the left is faster")
    across = min(_ACROSS, len(kinds))
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, kind in zip(panels, kinds, strict=False):
        _draw(
            axes, kind, {side: spreads[kind] for side, spreads in found.items() if kind in spreads}
        )
    for axes in panels[len(kinds) :]:
        axes.set_axis_off()
    shortest = min(spread.bins[0] for spreads in found.values() for spread in spreads.values())
    longest = max(spread.longest for spreads in found.values() for spread in spreads.values())
    # whole powers of ten, so that there are at least two labels
    panels[0].set_xlim(
        10 ** math.floor(shortest / PER_DECADE), 10 ** (math.floor(math.log10(longest)) + 1)
    )
    # the lowest panel of each column has the labels, even if the last row is not full
    for axes in panels[max(0, len(kinds) - across) : len(kinds)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("latency")
    for axes in panels[: len(kinds) : across]:
        axes.set_ylabel("share of ops")
    return figure


def _spreads(trace: Frames, column: str) -> dict[str, Spread]:
    """Return the spread of each kind that has measured ops."""
    groups = (
        guest_ops(trace)
        .filter(pl.col("completed").is_not_null(), pl.col(column) > 0)
        .group_by("kind", bin=(pl.col(column).log10() * PER_DECADE).floor().cast(pl.Int64))
        .agg(pl.len().cast(pl.Int64), longest=pl.col(column).max())
        .sort("bin")
        .collect(engine="streaming")
    )
    return {
        str(kind): Spread(rows["bin"].to_numpy(), rows["len"].to_numpy(), rows["longest"].max())  # type: ignore[arg-type]
        for (kind,), rows in groups.group_by("kind", maintain_order=True)
    }


def _draw(axes: Axes, kind: str, spreads: dict[str, Spread]) -> None:
    colour = style.LINES[kind][0]
    looks = {"test": (colour, "-", 2.2), "reference": ("black", (0, (4, 2)), 1.2)}
    axes.set_xscale("log")
    for side, spread in spreads.items():
        ends, shares = spread.steps
        start = 10 ** (spread.bins[0] / PER_DECADE)
        ink, dashes, width = looks[side]
        numbers = [spread.quantile(0.5), spread.quantile(0.99), spread.longest]
        summary = " / ".join(style.short(ns, style.TIMES) for ns in numbers)
        axes.step(
            np.concatenate([[start], ends]), np.concatenate([[0], shares]), where="post",
            color=ink, ls=dashes, lw=width, label=f"{side}: {summary}",
        )  # fmt: skip
    ops = max(spread.ops for spread in spreads.values())
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 0.98), frameon=False, fontsize=9, handlelength=2.6,
        title=f"{kind}: {ops:,} (median / 99 % / longest)", alignment="left",
    )  # fmt: skip
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.xaxis.set_major_locator(LogLocator(numticks=7))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ns, _: style.short(ns, style.TIMES)))
    axes.grid(color=style.FAINT, lw=0.5)
    axes.tick_params(labelsize=8)
