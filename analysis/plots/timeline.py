"""The timeline: which part of the disk was used when.

Each kind has a panel, with cells shaded by the number of ops in them.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from analysis.frames.frames import Frames
from analysis.plots import style
from analysis.plots.bins import TimeBins, part, stacked, times, too_fine
from analysis.plots.subject import Some, Subject, subject_of

MAX_COLUMNS = 480
"""The most cells along the axis of time: three pixels each, which the eye can separate."""

MIN_COLUMNS = 120
"""The fewest cells along the axis of time: with few ops, each cell is as large as a symbol."""

_SHAPE = 4
"""Columns per row: cells are then about as wide as high in a panel of 2 inches."""

MAX_CROSSES = 200
"""The most mismatches in a picture: each costs an artist, and the first matter most."""

_TALL, _LOW, _STRIP = 2.4, 0.75, 0.25
"""Inches: the panel of the commonest kind; the lowest panel whose name and ticks fit beside it; and
the strip of flushes, which have no offset."""

_ALONE = 1.5
"""How much taller a panel is that has no others beside it."""

TITLE = "offset over time"

Cells = dict[str, npt.NDArray[np.float64]]
"""The ops in each cell, by kind. Row 0 has the lowest offsets; flushes have one row."""


def timeline(
    trace: Frames,
    *,
    ops: Some | None = None,
    sectors: range | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw offsets over time, the lowest at the bottom. Each kind of op has a panel and a colour.

    A cell is darker the more ops touch it. All panels share one scale. A panel is taller the more
    ops it has. Flushes have no offset, so their panel is a strip. Memory does not grow with the
    number of ops.

    ``ops``: the ops to draw, a filtered frame of ``trace.ops``; None: all.
    ``sectors``: the part of the disk to draw; None: the whole disk.
    ``ax``: draw all kinds into these axes, one over the other.

    Raises UsageError if an argument is wrong, TraceError if the trace is damaged.
    """
    style.check_axes(ax)
    subject = subject_of(trace, ops, sectors)
    span = times(subject, MIN_COLUMNS, MAX_COLUMNS, 3)
    if not span.ops:
        return style.nothing(subject, TITLE, "there are no ops to show", ax)
    height = part(subject.size, span.columns // _SHAPE)
    groups = _groups(subject, span, height)
    cells = _cells(subject, groups, span, height)
    columns, rows = too_fine(counts for kind, counts in cells.items() if kind != "flush")
    if columns > 1:
        span, height = span.merged(columns), height * rows
        groups = _merged(groups, columns, rows)
        cells = _cells(subject, groups, span, height)
    counts = {kind: int(groups.filter(kind=kind)["len"].sum()) for kind in cells}
    # the scale goes up to ten or more, so that a single op is light
    norm = LogNorm(1, max(10, *(ops.max() for ops in cells.values())))
    if ax is not None:
        return _overlaid(ax, subject, span, cells, height, norm, counts)
    heights = _heights(counts)
    marks, wrong = span.inside(subject.marks), subject.mismatches
    figure = style.new_figure(
        subject, TITLE, sum(heights.values()) + 0.1 * len(cells) + 1.8, span.ops,
        *_notes(span, height, len(marks), len(wrong)),
    )  # fmt: skip
    grid = figure.add_gridspec(len(cells), 1, height_ratios=list(heights.values()))
    panels: dict[str, Axes] = {}
    for row, kind in enumerate(cells):
        first = next(iter(panels.values()), None)
        axes = figure.add_subplot(grid[row, 0], sharex=first)
        _draw(axes, subject, span, cells[kind], height, norm, kind)
        if kind == "flush":
            axes.set_ylim(0, 1)
            axes.set_yticks([])
        else:
            _offsets(axes, subject, 5 if heights[kind] > 1.5 * _LOW else 2)
        # upright, the name of a kind is longer than a low panel
        axes.set_ylabel(
            f"{kind}\n{counts[kind]:,}" if heights[kind] > _STRIP else f"{kind}: {counts[kind]:,}",
            size=10, weight="bold", rotation=0, ha="right",
            va="center", ma="right",
        )  # fmt: skip
        axes.tick_params(labelbottom=row == len(cells) - 1, labelsize=9)
        panels[kind] = axes
    _draw_mismatches(panels, subject, wrong)
    drawn = list(panels.values())
    style.draw_marks(drawn, marks)
    style.time_axis(drawn[-1].xaxis, span.ns)
    _number_ops(drawn[0], groups, span)
    _scale(figure, drawn, norm)
    return figure


def _heights(counts: dict[str, int]) -> dict[str, float]:
    """Return the inches of each panel. The square root keeps panels of few ops visible."""
    placed = {kind: ops for kind, ops in counts.items() if kind != "flush"}
    if len(placed) <= 1:
        only = _TALL * _ALONE if placed else _TALL
        return {kind: only if kind in placed or not placed else _STRIP for kind in counts}
    most = max(placed.values())
    return {
        kind: max(_LOW, _TALL * math.sqrt(ops / most)) if kind in placed else _STRIP
        for kind, ops in counts.items()
    }


def _groups(subject: Subject, span: TimeBins, height: int) -> pl.DataFrame:
    """Count the ops of a kind that touch the same cells: in a column, rows ``first`` to ``last``.

    Ops without an offset are in row 0.
    """
    placed = pl.col("length") > 0
    return (
        subject.ops.group_by(
            "kind",
            column=span.column(pl.col("submitted")),
            first=pl.when(placed).then(subject.low // height).otherwise(0),
            last=pl.when(placed).then((subject.high - 1) // height).otherwise(0),
        )
        .agg(pl.len(), pl.col("seq").min())
        .collect(engine="streaming")
    )


def _merged(groups: pl.DataFrame, columns: int, rows: int) -> pl.DataFrame:
    """Return the groups for cells that are so many times as wide and as high."""
    larger = pl.col("column") // columns, pl.col("first", "last") // rows
    return groups.group_by("kind", *larger).agg(pl.col("len").sum(), pl.col("seq").min())


def _cells(subject: Subject, groups: pl.DataFrame, span: TimeBins, height: int) -> Cells:
    rows = -(-subject.size // height)
    return {
        kind: stacked(
            groups.filter(kind=kind), "len", (1 if kind == "flush" else rows, span.columns)
        )
        for kind in style.ORDER
        if kind in groups["kind"]
    }


def _draw(
    axes: Axes,
    subject: Subject,
    span: TimeBins,
    cells: npt.NDArray[Any],
    height: int,
    norm: LogNorm,
    kind: str,
    strip: tuple[float, float] | None = None,
) -> None:
    """Draw the cells of one kind. Those of flushes go from edge to edge, or into ``strip``."""
    bottom, top = float(subject.start), float(subject.start + height * len(cells))
    if kind == "flush":
        bottom, top = strip or (0, 1)
    axes.imshow(
        np.ma.masked_equal(cells, 0), norm=norm, cmap=style.ramp(style.LINES[kind][0]),
        aspect="auto", origin="lower", interpolation="nearest",
        extent=(span.start, span.end, bottom, top), zorder=2,
    )  # fmt: skip
    style.set_limits(axes.set_xlim, span.start, span.end)


def _offsets(axes: Axes, subject: Subject, ticks: int) -> None:
    style.set_limits(axes.set_ylim, subject.start, subject.start + max(subject.size, 1), 0.02)
    style.disk_axis(axes.yaxis, subject, ticks)
    axes.grid(axis="y", color=style.FAINT, lw=0.5, zorder=1)


def _overlaid(
    axes: Axes,
    subject: Subject,
    span: TimeBins,
    cells: Cells,
    height: int,
    norm: LogNorm,
    counts: dict[str, int],
) -> Figure:
    """Draw all kinds into one panel, flushes as a strip below the disk."""
    room = max(subject.size, 1)  # an empty disk has flushes too
    below = subject.start - 0.08 * room, subject.start - 0.03 * room
    # the commonest kind first, so that the others stay visible on it
    for kind in sorted(cells, key=lambda kind: -counts[kind]):
        _draw(axes, subject, span, cells[kind], height, norm, kind, below)
    _offsets(axes, subject, 5)
    if "flush" in cells:
        axes.set_ylim(subject.start - 0.1 * room)
    style.time_axis(axes.xaxis, span.ns)
    axes.legend(
        handles=[
            Patch(color=style.LINES[kind][0], label=f"{kind}: {counts[kind]:,}") for kind in cells
        ],
        loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=9,
    )  # fmt: skip
    return style.figure_of(axes)


def _draw_mismatches(panels: dict[str, Axes], subject: Subject, wrong: pl.DataFrame) -> None:
    """Draw a cross at each op that differed from the reference, at the first byte that differed."""
    wrong = wrong.head(MAX_CROSSES)
    if wrong.is_empty():
        return
    found = (
        subject.ops.filter(pl.col("seq").is_in(wrong["seq"].to_list()))
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
