"""The heatmap: how often each part of the disk was written, over time.

It shows blocks that are written again and again.
"""

import math

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.frames.frames import Frames
from analysis.plots import style
from analysis.plots.bins import Counts, TimeBins, part, stacked, times, too_fine
from analysis.plots.subject import Some, Subject, subject_of
from tracer.op import SECTOR

WRITING = ("write", "zero")
"""The kinds that count as writes. A trim does not: guests often trim a whole disk at once, and it
would look worn."""

MIN_COLUMNS, MAX_COLUMNS = 60, 396
"""Cells along the axis of time."""

MAX_ROWS = 160
"""Cells along the axis of offset: three pixels each."""

MIN_BLOCK = 4096
"""Bytes of the smallest block that is counted: the smallest write of most file systems."""

MAX_BLOCKS = 1 << 20
"""The most blocks that are counted: enough for 4 GiB. A larger disk has larger blocks."""

TITLE = "how often each part of the disk was written"


def heatmap(
    trace: Frames,
    *,
    ops: Some | None = None,
    sectors: range | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw how often each part of the disk was written or zeroed, over time and in total.

    A cell is darker the more often its part of the disk was written: bytes written divided by the
    bytes of the part. The side panel sums up the whole time: the average of each part, and the
    most written block in it. Memory grows with the disk, up to a limit, not with the number of ops.

    ``ops``: the ops to draw, a filtered frame of ``trace.ops``; None: all.
    ``sectors``: the part of the disk to draw; None: the whole disk.
    ``ax``: draw into these axes, without the side panel.

    Raises UsageError if an argument is wrong, TraceError if the trace is damaged.
    """
    style.check_axes(ax)
    subject = subject_of(trace, ops, sectors, "status")
    span = times(subject, MIN_COLUMNS, MAX_COLUMNS, 3)
    written = writes(subject)
    height = part(subject.size, MAX_ROWS)
    groups = _groups(subject, written, span, height)
    if groups.is_empty():
        return style.nothing(subject, TITLE, "nothing was written", ax)
    shape = -(-subject.size // height), span.columns
    columns, rows = too_fine([stacked(groups, "len", shape)])
    if columns > 1:
        groups = _merged(groups, columns, rows, height)
        span, height = span.merged(columns), height * rows
    edges = np.minimum(np.arange(0, subject.size + height, height), subject.size)
    cells = _bytes(groups, (len(edges) - 1, span.columns), height) / np.diff(edges)[:, np.newaxis]
    if ax is not None:
        _draw_map(style.figure_of(ax), ax, subject, span, cells, height)
        return style.figure_of(ax)
    block = block_size(subject.size)
    touches = block_writes(subject, written, block)
    hottest = int(touches.argmax())
    often = "once" if touches[hottest] == 1 else f"{touches[hottest]:,} times"
    figure = style.new_figure(
        subject, TITLE, 6, span.ops,
        f"a cell is {style.short(span.width, style.TIMES)} wide and "
        f"{style.short(height, style.BYTES)} high",
        f"written most: the {style.short(block, style.BYTES)} at sector "
        f"{(subject.start + hottest * block) // SECTOR:,}, {often}",
    )  # fmt: skip
    grid = figure.add_gridspec(1, 2, width_ratios=[5, 1])
    axes = figure.add_subplot(grid[0, 0])
    _draw_map(figure, axes, subject, span, cells, height)
    side = figure.add_subplot(grid[0, 1], sharey=axes)
    _draw_side(side, subject.start, edges, cells.sum(axis=1), touches, block)
    return figure


def block_size(size: int) -> int:
    """Return the bytes of the blocks whose writes are counted, on a disk of ``size`` bytes."""
    block = MIN_BLOCK
    while size > block * MAX_BLOCKS:
        block *= 2
    return block


def block_writes(subject: Subject, written: pl.LazyFrame, block: int) -> Counts:
    """Return how many ops wrote to each block of what is shown."""
    steps = np.zeros(-(-subject.size // block) + 1, np.int64)
    first, last = subject.low // block, (subject.high - 1) // block
    for edge, sign in ((first, 1), (last + 1, -1)):
        counts = written.group_by(edge=edge).len().collect(engine="streaming")
        steps[counts["edge"].to_numpy()] += sign * counts["len"].to_numpy().astype(np.int64)
    return np.cumsum(steps)[:-1]


def writes(subject: Subject) -> pl.LazyFrame:
    """Return the ops that wrote something."""
    return subject.ops.filter(pl.col("kind").is_in(WRITING), pl.col("status") == 0)


def _groups(subject: Subject, written: pl.LazyFrame, span: TimeBins, height: int) -> pl.DataFrame:
    """Count the ops that touch the same cells, and the bytes that they miss in the end cells."""
    low, high = subject.low, subject.high
    first, last = low // height, (high - 1) // height
    return (
        written.group_by(column=span.column(pl.col("submitted")), first=first, last=last)
        .agg(
            pl.len(),
            before=(low % height).cast(pl.Float64).sum(),
            after=((last + 1) * height - high).cast(pl.Float64).sum(),
        )
        .collect(engine="streaming")
    )


def _merged(groups: pl.DataFrame, columns: int, rows: int, height: int) -> pl.DataFrame:
    """Return the groups for cells that are so many times as wide, and as high as ``height``."""
    ops, first, last = pl.col("len"), pl.col("first"), pl.col("last")
    return groups.group_by(pl.col("column") // columns, first // rows, last // rows).agg(
        ops.sum(),
        before=(pl.col("before") + ops * (first % rows) * height).sum(),
        after=(pl.col("after") + ops * (rows - 1 - last % rows) * height).sum(),
    )


def _bytes(groups: pl.DataFrame, shape: tuple[int, int], height: int) -> npt.NDArray[np.float64]:
    """Return the bytes written in each cell: its size per op, less what ops miss at their ends."""
    cells = stacked(groups, "len", shape) * height
    x = groups["column"].to_numpy()
    for end, left_out in (("first", "before"), ("last", "after")):
        np.subtract.at(cells, (groups[end].to_numpy(), x), groups[left_out].to_numpy())
    return cells


def _draw_map(
    figure: Figure,
    axes: Axes,
    subject: Subject,
    span: TimeBins,
    cells: npt.NDArray[np.float64],
    height: int,
) -> None:
    """Draw offsets over time, with the scale of the shades."""
    least = cells[cells > 0].min()
    # the scale spans a factor of ten or more, so that small differences stay small
    norm = LogNorm(least, max(cells.max(), 10 * least))
    image = axes.imshow(
        np.ma.masked_equal(cells, 0), norm=norm, cmap=style.ramp(style.BLUE), aspect="auto",
        origin="lower", interpolation="nearest",
        extent=(span.start, span.end, subject.start, subject.start + height * len(cells)),
    )  # fmt: skip
    style.set_limits(axes.set_xlim, span.start, span.end)
    style.set_limits(axes.set_ylim, subject.start, subject.end)
    style.disk_axis(axes.yaxis, subject, 8)
    style.time_axis(axes.xaxis, span.ns)
    style.draw_marks([axes], span.inside(subject.marks))
    bar = figure.colorbar(image, ax=axes, pad=0.01, fraction=0.04, aspect=30)
    style.label_scale(bar, "times written (bytes written / bytes there)")


def _draw_side(
    axes: Axes, start: int, edges: Counts, mean: npt.NDArray[np.float64], touches: Counts,
    block: int,
) -> None:  # fmt: skip
    """Draw the whole time as a sideways graph: the average and the maximum of each part."""
    most = np.maximum.reduceat(touches, edges[:-1] // block)
    places = start + edges
    axes.stairs(
        mean, places, orientation="horizontal", fill=True, color=style.WRITTEN, label="on average"
    )
    axes.stairs(
        most, places, orientation="horizontal", color="black", lw=1,
        label=f"most in any {style.short(block, style.BYTES)}",
    )  # fmt: skip
    axes.set_xscale("symlog", linthresh=1)
    highest = max(2, touches.max() * 1.5)
    axes.set_xlim(0, highest)
    axes.set_xticks(ticks_of_counts(highest))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: style.count(x)))
    axes.set_xlabel("times written in all")
    axes.tick_params(labelleft=False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=8)


def ticks_of_counts(highest: float) -> list[int]:
    """Return the ticks of the side panel, which is linear up to 1 and logarithmic above: 0, 1, and
    at most three powers of ten, the same factor apart."""
    decades = int(math.log10(highest))
    apart = max(1, math.ceil(decades / 3))
    return [0, 1, *(10**power for power in range(apart, decades + 1, apart))]
