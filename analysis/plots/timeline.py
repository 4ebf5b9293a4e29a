"""The timeline: which part of the disk was used when.

Each kind has a panel, with cells shaded by the number of ops in them.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.frames.frames import Frames
from analysis.plots import style
from analysis.plots.bins import TimeBins, guest_ops, part, stacked, times

MAX_COLUMNS = 480
"""The most cells along the axis of time: three pixels each, which the eye can separate."""

MIN_COLUMNS = 120
"""The fewest cells along the axis of time: with few ops, each cell is as large as a symbol."""

_SHAPE = 4
"""Columns per row: cells are then about as wide as high in a panel of _PANEL inches."""

MAX_CROSSES = 200
"""The most mismatches in a picture: each costs an artist, and the first matter most."""

_PANEL = 2.0
"""The height in inches of a panel that shows offsets."""

TITLE = "offset over time"


def timeline(trace: Frames) -> Figure:
    """Draw offsets over time, the lowest at the bottom. Each kind of op has a panel and a colour.

    A cell is darker the more ops touch it. All panels share one scale. Flushes have no offset, so
    their panel is a strip. Memory does not grow with the number of ops. Raises TraceError.
    """
    span = times(trace, MIN_COLUMNS, MAX_COLUMNS, 3)
    if not span.ops:
        return style.nothing(trace, TITLE, "there are no ops to show")
    height = part(trace.header.size, span.columns // _SHAPE)
    groups = _groups(trace, span, height)
    kinds = [kind for kind in style.ORDER if kind in groups["kind"]]
    heights = [0.25 if kind == "flush" else _PANEL for kind in kinds]
    if kinds == ["flush"]:
        heights = [_PANEL]
    marks, wrong = trace.marks, trace.mismatches
    notes = _notes(span, height, len(marks), len(wrong))
    figure = style.new_figure(trace, TITLE, sum(heights) + 0.1 * len(kinds) + 1.8, *notes)
    grid = figure.add_gridspec(len(kinds), 1, height_ratios=heights)
    rows = -(-trace.header.size // height)
    cells = {
        kind: stacked(
            groups.filter(kind=kind), "len", (1 if kind == "flush" else rows, span.columns)
        )
        for kind in kinds
    }
    # the scale goes up to ten or more, so that a single op is light
    norm = LogNorm(1, max(10, *(counts.max() for counts in cells.values())))
    panels: list[Axes] = []
    for row, kind in enumerate(kinds):
        axes = figure.add_subplot(grid[row, 0], sharex=panels[0] if panels else None)
        _draw(axes, trace.header.size, span, cells[kind], height, norm, style.LINES[kind][0])
        ops = int(groups.filter(kind=kind)["len"].sum())
        flat: dict[str, Any] = (
            {"rotation": 0, "ha": "right", "va": "center"} if kind == "flush" else {}
        )
        axes.set_ylabel(f"{kind}: {ops:,}", size=10, weight="bold", **flat)
        axes.tick_params(labelbottom=row == len(kinds) - 1, labelsize=9)
        panels.append(axes)
    _draw_mismatches(dict(zip(kinds, panels, strict=True)), trace, wrong)
    style.draw_marks(panels, marks)
    style.time_axis(panels[-1].xaxis, span.ns)
    _number_ops(panels[0], groups, span)
    _scale(figure, panels, norm)
    return figure


def _groups(trace: Frames, span: TimeBins, height: int) -> pl.DataFrame:
    """Count the ops of a kind that touch the same cells: in a column, rows ``first`` to ``last``.

    Ops without an offset are in row 0.
    """
    offset, length = pl.col("offset"), pl.col("length")
    placed = length > 0
    return (
        guest_ops(trace)
        .group_by(
            "kind",
            column=span.column(pl.col("submitted")),
            first=pl.when(placed).then(offset // height).otherwise(0),
            last=pl.when(placed).then((offset + length - 1) // height).otherwise(0),
        )
        .agg(pl.len(), pl.col("seq").min())
        .collect(engine="streaming")
    )


def _draw(
    axes: Axes,
    size: int,
    span: TimeBins,
    cells: npt.NDArray[Any],
    height: int,
    norm: LogNorm,
    colour: str,
) -> None:
    """Draw the panel of one kind."""
    flat = len(cells) == 1
    top = size if flat else height * len(cells)
    axes.imshow(
        np.ma.masked_equal(cells, 0), norm=norm, cmap=style.ramp(colour), aspect="auto",
        origin="lower", interpolation="nearest", extent=(span.start, span.end, 0, top), zorder=2,
    )  # fmt: skip
    style.set_limits(axes.set_xlim, span.start, span.end)
    if flat:
        axes.set_ylim(0, size)
        axes.set_yticks([])
        return
    style.set_limits(axes.set_ylim, 0, size, 0.02)
    style.offset_axis(axes.yaxis, size, 5)
    axes.grid(axis="y", color=style.FAINT, lw=0.5, zorder=1)


def _draw_mismatches(panels: dict[str, Axes], trace: Frames, wrong: pl.DataFrame) -> None:
    """Draw a cross at each op that differed from the reference, at the first byte that differed."""
    wrong = wrong.head(MAX_CROSSES).select("seq", "offset")
    if wrong.is_empty():
        return
    found = (
        trace.ops.filter(pl.col("seq").is_in(wrong["seq"].to_list()))
        .select("seq", "kind", "submitted")
        .collect()
        .join(wrong, on="seq")
    )
    for kind, axes in panels.items():
        here = found.filter(kind=kind)
        # matplotlib fails to lay out a panel with an unclipped line that has no points
        if len(here):
            axes.plot(
                here["submitted"], here["offset"], "x", color=style.VERMILLION, ms=9, mew=2.5,
                clip_on=False, zorder=7,
            )  # fmt: skip


def _number_ops(axes: Axes, groups: pl.DataFrame, span: TimeBins) -> None:
    """Label the top axis: at each tick, the number of the first op in its column or after it."""
    first = groups.group_by("column").agg(pl.col("seq").min()).sort("column")
    ends, seqs = span.edges[first["column"].to_numpy() + 1], first["seq"].to_numpy()
    above: Any = axes.secondary_xaxis("top")

    def name(time: float, _: int) -> str:
        at = int(np.searchsorted(ends, time, "right"))
        return f"#{seqs[at]:,}" if at < len(seqs) else ""

    above.xaxis.set_major_locator(axes.xaxis.get_major_locator())
    above.xaxis.set_major_formatter(FuncFormatter(name))
    above.tick_params(labelsize=8, length=3)
    above.set_xlabel("first op from there on", size=9)


def _scale(figure: Figure, panels: list[Axes], norm: LogNorm) -> None:
    """Draw the scale in grey, which fits all colours: equal counts are equally light."""
    shades = ScalarMappable(norm, style.ramp("#777777"))
    shrink = min(1, 2.5 / len(panels))
    bar = figure.colorbar(shades, ax=panels, pad=0.01, fraction=0.03, aspect=25, shrink=shrink)
    style.label_scale(bar, "ops in a cell (every colour)")


def _notes(span: TimeBins, height: int, marks: int, wrong: int) -> list[str]:
    cell = f"a cell is {style.short(span.width, style.TIMES)} wide"
    notes = [f"{cell} and {style.short(height, style.BYTES)} high"]
    if wrong:
        first = f" (the first {MAX_CROSSES} of {wrong:,})" if wrong > MAX_CROSSES else ""
        notes.append(f"crosses: differed from the reference{first}")
    if marks:
        first = f" (the first {style.MAX_MARKS} of {marks:,})" if marks > style.MAX_MARKS else ""
        notes.append(f"dotted: marks{first}")
    return notes
