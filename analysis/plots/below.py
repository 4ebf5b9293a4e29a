"""Below: the guest's ops on the disk, and under them what the driver did to its image file then."""

import polars as pl
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.frames.frames import Frames
from analysis.plots import style
from analysis.plots.subject import Some, subject_of
from analysis.plots.timeline import timeline
from tracer.errors import UsageError

TITLE = "the guest above, the image file below"

MAX_LOWER = 50_000
"""The most lower ops in a picture: lines beyond that lie on each other, and an SVG grows with
them."""

_LEAST = 0.008
"""The least height of a line, as a share of the image file: less cannot be seen."""

_COLOURS = {
    "write": style.LINES["write"][0],
    "zero": style.LINES["zero"][0],
    "discard": style.LINES["trim"][0],
    "flush": style.LINES["flush"][0],
    "truncate": "black",
}
"""The colours of lower ops: those of the guest's ops that do the like."""


def below(
    trace: Frames,
    *,
    ops: Some | None = None,
    sectors: range | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the guest's ops above, by offset on the disk, and the driver's own ops on its image file
    below, by offset in the file, over the same time. Needs the NAME.lower beside the trace.

    A lower op is a line from its first byte to its last, at the time of the latest op of the guest
    that was in flight with it or before it: a NAME.lower of a replay has a clock of its own.
    Flushes are marks at the bottom.

    ``ops``, ``sectors``: what to draw of the guest's ops, as for ``timeline``; what is below has
    the same time. ``ax`` is refused: the picture has two panels.

    Raises UsageError if an argument is wrong, TraceError if the trace is damaged or there is no
    NAME.lower of it.
    """
    if ax is not None:
        raise UsageError("ax=: this picture has two panels, and makes its own axes")
    subject = subject_of(trace, ops, sectors)
    lower = _timed(trace)
    figure = style.new_figure(
        subject, TITLE, 6.6, subject.ops.select(pl.len()).collect().item(), *_notes(lower)
    )
    upper, under = figure.subplots(2, 1, sharex=True)
    timeline(trace, ops=ops, sectors=sectors, ax=upper)
    upper.set_ylabel("the disk", size=10, weight="bold")
    upper.set_xlabel("")
    start, end = upper.get_xlim()
    shown = lower.filter(pl.col("moment").is_between(start, end)).head(MAX_LOWER)
    _draw(under, shown)
    style.set_limits(under.set_xlim, start, end)
    style.time_axis(under.xaxis, int(end - start))
    return figure


def _timed(trace: Frames) -> pl.DataFrame:
    """Return the lower ops with ``moment``, in ns since the trace's start."""
    lower = trace.lower
    sent = trace.ops.select("seq", moment=pl.col("submitted").cast(pl.Int64)).collect()
    latest = (
        lower.select("number", seq="in_flight")
        .explode("seq")
        .join(sent, on="seq", how="inner")
        .group_by("number")
        .agg(pl.col("moment").max())
    )
    timed = lower.join(latest, on="number", how="left").sort("number")
    return timed.with_columns(pl.col("moment").forward_fill().fill_null(0))


def _draw(axes: Axes, lower: pl.DataFrame) -> None:
    """Draw lower ops, each kind in its colour, and name the kinds."""
    placed = lower.filter(pl.col("kind").is_in(["write", "zero", "discard"]))
    ends = (placed["offset_bytes"] + placed["length_bytes"]).max()
    size = max(1, int(ends) if isinstance(ends, int) else 1)
    handles = []
    for kind, colour in _COLOURS.items():
        here = lower.filter(kind=kind)
        if here.is_empty():
            continue
        if kind == "flush":
            bottoms, tops = [-0.08 * size] * len(here), [-0.03 * size] * len(here)
        elif kind == "truncate":  # a mark at the new length
            tops = here["length_bytes"].to_list()
            bottoms = [top - _LEAST * size for top in tops]
        else:
            bottoms = here["offset_bytes"].to_list()
            lengths = here["length_bytes"].to_list()
            tops = [
                bottom + max(length, _LEAST * size)
                for bottom, length in zip(bottoms, lengths, strict=True)
            ]
        moments = here["moment"].to_list()
        lines = [
            [(at, bottom), (at, top)]
            for at, bottom, top in zip(moments, bottoms, tops, strict=True)
        ]
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=2, rasterized=True))
        handles.append(Line2D([], [], color=colour, lw=3, label=f"{kind}: {len(here):,}"))
    style.set_limits(axes.set_ylim, -0.1 * size, size, 0.02)
    style.offset_axis(axes.yaxis, size, 5)
    axes.grid(axis="y", color=style.FAINT, lw=0.5, zorder=0)
    axes.set_ylabel("the image file", size=10, weight="bold")
    if handles:
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False,
                    fontsize=9)  # fmt: skip


def _notes(lower: pl.DataFrame) -> list[str]:
    count = len(lower)
    first = f" (the first {MAX_LOWER:,} of {count:,})" if count > MAX_LOWER else ""
    return [f"{count:,} lower ops{first}, each at the latest op of the guest"]
