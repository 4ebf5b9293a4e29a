"""The sizes picture: how large requests are, by kind, in classes of powers of two."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from analysis.frames.frames import Frames
from analysis.plots import style
from analysis.plots.bins import guest_ops
from tracer import text

ALIGNED = 4096
"""Bytes of the physical sector of most disks, even if guests see sectors of 512 bytes (512e)."""

TITLE = "request sizes"


def sizes(trace: Frames) -> Figure:
    """Draw the share of each kind's requests in classes of size, from a power of two to the next.

    Memory grows with the number of different lengths. Raises TraceError.
    """
    lengths = _lengths(trace)
    kinds = [kind for kind in style.ORDER if kind in lengths["kind"]]
    if not kinds:
        return style.nothing(trace, TITLE, "there are no ops that have a size")
    low, high = int(lengths["power"].min()), int(lengths["power"].max())  # type: ignore[arg-type]
    figure = style.new_figure(
        trace, TITLE, 1.55 * len(kinds) + 1.4, "each bar: from its size to just below the next",
        "above it: how many",
    )  # fmt: skip
    panels = figure.subplots(len(kinds), 1, sharex=True, squeeze=False).ravel()
    for axes, kind in zip(panels, kinds, strict=True):
        _draw(axes, kind, lengths.filter(kind=kind), low, high)
    names = [style.short(1 << power, style.BYTES) for power in range(low, high + 1)]
    panels[-1].set_xticks(range(low, high + 1), names, size=8)
    # otherwise a single bar would be as wide as the page
    middle, half = (low + high) / 2, max(high - low + 1, 8) / 2
    panels[-1].set_xlim(middle - half, middle + half)
    panels[-1].set_xlabel("request size")
    return figure


def _lengths(trace: Frames) -> pl.DataFrame:
    """Count the ops of each kind and length, and those that are aligned at both ends."""
    aligned = (pl.col("offset") % ALIGNED == 0) & (pl.col("length") % ALIGNED == 0)
    frame = (
        guest_ops(trace)
        .filter(pl.col("length") > 0)
        .group_by("kind", "length")
        .agg(pl.len(), aligned=aligned.sum())
        .sort("kind", "length")
        .collect(engine="streaming")
    )
    # lengths are below 2**32, so a float represents them exactly
    power = np.frexp(frame["length"].to_numpy().astype(np.float64))[1] - 1
    return frame.with_columns(power=pl.Series(power, dtype=pl.Int64))


def _draw(axes: Axes, kind: str, lengths: pl.DataFrame, low: int, high: int) -> None:
    """Draw the bars of one kind."""
    counts = np.bincount(lengths["power"] - low, lengths["len"], high - low + 1)
    total = int(lengths["len"].sum())
    colour, hatch = style.LOOKS[kind]
    places = np.arange(low, high + 1)
    bars = axes.bar(
        places, counts / total, 0.8, color=colour, hatch=hatch, edgecolor="black", lw=0.6
    )
    axes.bar_label(
        bars, [f"{int(count):,}" if count else "" for count in counts], fontsize=8, padding=1
    )
    amount = int((lengths["length"] * lengths["len"]).sum())
    commonest, times = (
        lengths.sort("len", "length", descending=[True, False]).select("length", "len").row(0)
    )
    axes.set_title(
        f"{kind}: {total:,}, {text.size(amount)} in all; most often {commonest:,} B "
        f"({times / total:.0%}); {total - lengths['aligned'].sum():,} not aligned to 4 KiB",
        loc="left", size=10,
    )  # fmt: skip
    axes.set_ylim(0, counts.max() / total * 1.25)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.locator_params(axis="y", nbins=4)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
