"""The sizes picture: how large requests are, by kind, in classes of powers of two."""

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from analysis.frames.frames import Frames
from analysis.plots import style
from analysis.plots.subject import Some, Subject, subject_of
from tracer import text

ALIGNED = 4096
"""Bytes of the physical sector of most disks, even if guests see sectors of 512 bytes (512e)."""

TITLE = "request sizes"


def sizes(
    trace: Frames,
    *,
    ops: Some | None = None,
    sectors: range | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the share of each kind's requests in classes of size, from a power of two to the next.

    Memory grows with the number of different lengths.

    ``ops``: the ops to draw, a filtered frame of ``trace.ops``; None: all.
    ``sectors``: draw the ops that touch these sectors; None: the whole disk.
    ``ax``: draw the outlines of all kinds into these axes.

    Raises UsageError if an argument is wrong, TraceError if the trace is damaged.
    """
    style.check_axes(ax)
    subject = subject_of(trace, ops, sectors)
    lengths = _lengths(subject)
    kinds = [kind for kind in style.ORDER if kind in lengths["kind"]]
    if not kinds:
        return style.nothing(subject, TITLE, "there are no ops that have a size", ax)
    low, high = int(lengths["power"].min()), int(lengths["power"].max())  # type: ignore[arg-type]
    if ax is not None:
        for kind in kinds:
            counts = _counts(lengths.filter(kind=kind), low, high)
            colour, dashes = style.LINES[kind]
            edges = np.arange(low, high + 2) - 0.5
            ax.stairs(counts / counts.sum(), edges, color=colour, ls=dashes, lw=1.8, label=kind)
        _label(ax, low, high)
        ax.set_ylabel("share of ops")
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=9)
        return style.figure_of(ax)
    figure = style.new_figure(
        subject, TITLE, 1.55 * len(kinds) + 1.4, int(lengths["len"].sum()),
        "each bar: from its size to just below the next", "above it: how many",
    )  # fmt: skip
    panels = figure.subplots(len(kinds), 1, sharex=True, squeeze=False).ravel()
    for axes, kind in zip(panels, kinds, strict=True):
        _draw(axes, kind, lengths.filter(kind=kind), low, high)
    _label(panels[-1], low, high)
    return figure


def _label(axes: Axes, low: int, high: int) -> None:
    """Label the axis of sizes."""
    # where there are many, every other one has room: 4 KiB stays one of them
    step = 1 if high - low < 20 else 2
    powers = range(low + low % step, high + 1, step)
    axes.set_xticks(powers, [style.short(1 << power, style.BYTES) for power in powers], size=8)
    # otherwise a single bar would be as wide as the page
    middle, half = (low + high) / 2, max(high - low + 1, 8) / 2
    axes.set_xlim(middle - half, middle + half)
    axes.set_xlabel("request size")


def _counts(lengths: pl.DataFrame, low: int, high: int) -> npt.NDArray[np.float64]:
    """Return the ops in each class of size."""
    return np.bincount(lengths["power"] - low, lengths["len"], high - low + 1).astype(np.float64)


def _lengths(subject: Subject) -> pl.DataFrame:
    """Count the ops of each kind and length, and those that are aligned at both ends."""
    aligned = (pl.col("offset") % ALIGNED == 0) & (pl.col("length") % ALIGNED == 0)
    frame = (
        subject.ops.filter(pl.col("length") > 0)
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
    counts = _counts(lengths, low, high)
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
