"""The heatmap: how often each part of the disk was written, over time.

It shows blocks that are written again and again.
"""

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.frames.frames import Frames
from analysis.plots import style
from analysis.plots.bins import Counts, TimeBins, part, stacked, times
from tracer.op import SECTOR

WRITING = ("write", "zero")
"""The kinds that count as writes. A trim does not: guests often trim a whole disk at once, and it
would look worn."""

MIN_COLUMNS, MAX_COLUMNS = 60, 400
"""Cells along the axis of time."""

MAX_ROWS = 160
"""Cells along the axis of offset: three pixels each."""

MIN_BLOCK = 4096
"""Bytes of the smallest block that is counted: the smallest write of most file systems."""

MAX_BLOCKS = 1 << 20
"""The most blocks that are counted: enough for 4 GiB. A larger disk has larger blocks."""

TITLE = "how often each part of the disk was written"


def heatmap(trace: Frames) -> Figure:
    """Draw how often each part of the disk was written or zeroed, over time and in total.

    A cell is darker the more often its part of the disk was written: bytes written divided by the
    bytes of the part. The side panel sums up the whole recording: the average of each part, and the
    most written block in it. Memory grows with the disk, up to a limit, not with the number of ops.
    Raises TraceError.
    """
    span = times(trace, MIN_COLUMNS, MAX_COLUMNS, 3)
    written = writes(trace)
    height = part(trace.header.size, MAX_ROWS)
    edges = np.minimum(np.arange(0, trace.header.size + height, height), trace.header.size)
    groups = _groups(written, span, height)
    if groups.is_empty():
        return style.nothing(trace, TITLE, "nothing was written")
    cells = _bytes(groups, (len(edges) - 1, span.columns), height) / np.diff(edges)[:, np.newaxis]
    block = block_size(trace.header.size)
    touches = block_writes(written, trace.header.size, block)
    hottest = int(touches.argmax())
    figure = style.new_figure(
        trace, TITLE, 6,
        f"a cell is {style.short(span.width, style.TIMES)} wide and "
        f"{style.short(height, style.BYTES)} high",
        f"written most: the {style.short(block, style.BYTES)} at sector "
        f"{hottest * block // SECTOR:,}, "
        f"{'once' if touches[hottest] == 1 else f'{touches[hottest]:,} times'}",
    )  # fmt: skip
    grid = figure.add_gridspec(1, 2, width_ratios=[5, 1])
    axes = figure.add_subplot(grid[0, 0])
    _draw_map(figure, axes, trace, span, cells, height)
    _draw_side(
        figure.add_subplot(grid[0, 1], sharey=axes), edges, cells.sum(axis=1), touches, block
    )
    return figure


def block_size(size: int) -> int:
    """Return the bytes of the blocks whose writes are counted, on a disk of ``size`` bytes."""
    block = MIN_BLOCK
    while size > block * MAX_BLOCKS:
        block *= 2
    return block


def block_writes(written: pl.LazyFrame, size: int, block: int) -> Counts:
    """Return how many ops wrote to each block."""
    steps = np.zeros(-(-size // block) + 1, np.int64)
    first = pl.col("offset") // block
    last = (pl.col("offset") + pl.col("length") - 1) // block
    for edge, sign in ((first, 1), (last + 1, -1)):
        counts = written.group_by(edge=edge).len().collect(engine="streaming")
        steps[counts["edge"].to_numpy()] += sign * counts["len"].to_numpy().astype(np.int64)
    return np.cumsum(steps)[:-1]


def writes(trace: Frames) -> pl.LazyFrame:
    """Return the ops that wrote something."""
    return trace.ops.filter(pl.col("kind").is_in(WRITING), pl.col("status") == 0)


def _groups(written: pl.LazyFrame, span: TimeBins, height: int) -> pl.DataFrame:
    """Count the ops that touch the same cells, and the bytes that they miss in the end cells."""
    offset, length = pl.col("offset"), pl.col("length")
    first, last = offset // height, (offset + length - 1) // height
    return (
        written.group_by(column=span.column(pl.col("submitted")), first=first, last=last)
        .agg(
            pl.len(),
            before=(offset % height).cast(pl.Float64).sum(),
            after=((last + 1) * height - offset - length).cast(pl.Float64).sum(),
        )
        .collect(engine="streaming")
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
    trace: Frames,
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
        extent=(span.start, span.end, 0, height * len(cells)),
    )  # fmt: skip
    style.set_limits(axes.set_xlim, span.start, span.end)
    style.set_limits(axes.set_ylim, 0, trace.header.size)
    style.offset_axis(axes.yaxis, trace.header.size, 8)
    style.time_axis(axes.xaxis, span.ns)
    axes.set_ylabel("offset")
    style.draw_marks([axes], trace.marks)
    bar = figure.colorbar(image, ax=axes, pad=0.01, fraction=0.04, aspect=30)
    style.label_scale(bar, "times written (bytes written / bytes there)")


def _draw_side(
    axes: Axes, edges: Counts, mean: npt.NDArray[np.float64], touches: Counts, block: int
) -> None:
    """Draw the whole recording as a sideways graph: the average and the maximum of each part."""
    most = np.maximum.reduceat(touches, edges[:-1] // block)
    axes.stairs(
        mean, edges, orientation="horizontal", fill=True, color=style.WRITTEN, label="on average"
    )
    axes.stairs(
        most, edges, orientation="horizontal", color="black", lw=1,
        label=f"most in any {style.short(block, style.BYTES)}",
    )  # fmt: skip
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(0, max(2, touches.max() * 1.5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}"))
    axes.set_xlabel("times written in all")
    axes.tick_params(labelleft=False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=8)
