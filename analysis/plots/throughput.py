"""The throughput picture: bytes and ops per second by kind, and ops in flight, over time."""

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from analysis.frames.frames import Frames
from analysis.plots import style
from analysis.plots.bins import TimeBins, times
from analysis.plots.subject import Some, Subject, subject_of

MAX_COLUMNS = 300
"""The most intervals: five pixels each, so that a line through them is not a smear."""

MOVES_DATA = ("read", "write")
"""The kinds whose bytes are counted: the others name ranges and move no data."""

TITLE = "throughput and queue depth"

_NEVER = (1 << 63) - 1

_Rates = npt.NDArray[np.float64]


def throughput(
    trace: Frames,
    *,
    ops: Some | None = None,
    sectors: range | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw bytes per second of reads and writes, ops per second of each kind, and ops in flight.

    An op counts in the interval in which it completed. Memory grows with the number of ops as that
    of ``in_flight`` does.

    ``ops``: the ops to draw, a filtered frame of ``trace.ops``; None: all.
    ``sectors``: draw the ops that touch these sectors; None: the whole disk.
    ``ax``: draw bytes per second into these axes, and nothing else.

    Raises UsageError if an argument is wrong, TraceError if the trace is damaged.
    """
    style.check_axes(ax)
    subject = subject_of(trace, ops, sectors, "in_flight")
    span = times(subject, 1, MAX_COLUMNS, 2)
    if not span.ops:
        return style.nothing(subject, TITLE, "there are no ops to show", ax)
    done = completions(subject, span)
    kinds = [kind for kind in style.ORDER if kind in done]
    seconds = span.width / 1e9
    moved = {kind: done[kind][1] / seconds for kind in kinds if kind in MOVES_DATA}
    if ax is not None:
        _draw_data(ax, span, moved)
        _finish([ax], span, subject)
        return style.figure_of(ax)
    interval = style.short(span.width, style.TIMES)
    figure = style.new_figure(subject, TITLE, 7.5, span.ops, f"each step is {interval}")
    upper, middle, lower = figure.subplots(3, 1, sharex=True)
    _draw_data(upper, span, moved)
    for kind in kinds:
        _draw(middle, span, done[kind][0] / seconds, kind)
    middle.set_ylabel("ops/s")
    mean, most = depths(subject, span)
    lower.stairs(most, span.edges, fill=True, color=style.WRITTEN, label="most")
    lower.stairs(mean, span.edges, baseline=None, color="black", lw=1.5, label="on average")
    lower.set_ylabel("ops in flight")
    lower.yaxis.set_major_locator(MaxNLocator(integer=True))
    _finish([upper, middle, lower], span, subject)
    return figure


def _draw_data(axes: Axes, span: TimeBins, moved: dict[str, _Rates]) -> None:
    """Draw the bytes per second of each kind that moves data."""
    name, unit = style.unit_of(
        max((rates.max() for rates in moved.values()), default=0), style.BYTES, 1
    )
    for kind, rates in moved.items():
        _draw(axes, span, rates / unit, kind)
    axes.set_ylabel(f"{name}/s")
    if not moved:
        axes.text(0.5, 0.5, "no data was read or written", transform=axes.transAxes, ha="center")


def _finish(panels: list[Axes], span: TimeBins, subject: Subject) -> None:
    """Give the panels their limits, numbers, legends and marks."""
    for axes in panels:
        style.set_limits(axes.set_xlim, span.start, span.end)
        axes.set_ylim(0, axes.dataLim.y1 * 1.08 if axes.patches and axes.dataLim.y1 > 0 else 1)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
        axes.grid(color=style.FAINT, lw=0.5)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=9)
    style.draw_marks(panels, span.inside(subject.marks))
    style.time_axis(panels[-1].xaxis, span.ns)


def _draw(axes: Axes, span: TimeBins, rates: _Rates, kind: str) -> None:
    colour, dashes = style.LINES[kind]
    axes.stairs(rates, span.edges, baseline=None, color=colour, ls=dashes, lw=1.4, label=kind)


def completions(subject: Subject, span: TimeBins) -> dict[str, tuple[_Rates, _Rates]]:
    """Return how many ops of each kind completed in each interval, and their bytes."""
    groups = (
        subject.ops.filter(pl.col("completed").is_not_null())
        .group_by("kind", column=span.column(_ended(span)))
        .agg(pl.len(), bytes=pl.col("length").sum())
        .collect(engine="streaming")
    )
    found = {}
    for (kind,), rows in groups.group_by("kind"):
        ops, amount = np.zeros(span.columns), np.zeros(span.columns)
        ops[rows["column"].to_numpy()] = rows["len"].to_numpy()
        amount[rows["column"].to_numpy()] = rows["bytes"].to_numpy()
        found[str(kind)] = ops, amount
    return found


def depths(subject: Subject, span: TimeBins) -> tuple[_Rates, _Rates]:
    """Return the average and the maximum number of ops in flight in each interval.

    The average is exact: the time that each op spends in an interval, summed and divided by the
    interval's width. An op that never completed is in flight to the end. The maximum is taken over
    the start of the interval and the moments at which ops were submitted.
    """
    came = _events(subject, span, pl.col("submitted"), pl.col("in_flight").max().fill_null(0) + 1)
    went = _events(subject, span, _ended(span), pl.lit(0))
    carried = np.concatenate([[0.0], np.cumsum(came["len"] - went["len"])[:-1]])
    mean = carried + (came["left"] - went["left"]) / span.width
    return np.maximum(mean, 0), np.maximum(came["most"], carried)


def _ended(span: TimeBins) -> pl.Expr:
    """Return when an op ended. An op never ends before its submission, whatever a trace says."""
    last = min(span.end, _NEVER) - 1
    return pl.max_horizontal(pl.col("completed").fill_null(last), "submitted")


def _events(subject: Subject, span: TimeBins, time: pl.Expr, most: pl.Expr) -> dict[str, _Rates]:
    """Return, per interval: its events, the sum of the ns left at each event, and ``most``."""
    column = span.column(time)
    left = span.width - (time - span.start) % span.width
    groups = (
        subject.ops.group_by(column=column)
        .agg(pl.len(), left=left.cast(pl.Float64).sum(), most=most)
        .collect(engine="streaming")
    )
    found = {name: np.zeros(span.columns) for name in ("len", "left", "most")}
    for name, values in found.items():
        values[groups["column"].to_numpy()] = groups[name].to_numpy()
    return found
