"""The latency picture: distributions by kind, test against reference, and latency over time."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from analysis.frames.frames import Frames
from analysis.plots import style
from analysis.plots.subject import Some, Subject, subject_of
from analysis.plots.waits import draw_waits

PER_DECADE = 200
"""Bins per power of ten: values are right to 1.2 %, half a pixel."""

SIDES = {"test": "test_took", "reference": "reference_took"}
"""The column of Frames.ops for each side."""

GUEST = {"guest": "latency"}
"""What is drawn if no side was measured: the time that the guest waited."""

LOWEST, HIGHEST = 0.005, 0.99995
"""The shares at the ends of the axis: beyond the first and the last tick."""

SHARES = (0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
"""The shares with a tick."""

NUMBERS = {"median": 0.5, "99 %": 0.99, "99.99 %": 0.9999}
"""The shares whose time is in the legend."""

_ACROSS = 3
"""Panels side by side."""

TITLE = "latency"


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


Spreads = dict[str, dict[str, Spread]]
"""The spread of each kind, by side."""


def latency(
    trace: Frames,
    *,
    ops: Some | None = None,
    sectors: range | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw how long ops took: a panel for each kind, and one for all kinds over time.

    A kind's panel has the cumulative distribution on the test side and on the reference, up to the
    slowest of 10,000. If neither side was measured, the time that the guest waited takes their
    place, and the caption says so. Ops that never completed or were not measured are left out.
    Memory does not grow with the number of ops.

    ``ops``: the ops to draw, a filtered frame of ``trace.ops``; None: all.
    ``sectors``: draw the ops that touch these sectors; None: the whole disk.
    ``ax``: draw the distributions of all kinds into these axes, without the panel over time.

    Raises UsageError if an argument is wrong, TraceError if the trace is damaged.
    """
    style.check_axes(ax)
    subject = subject_of(trace, ops, sectors, *SIDES.values(), *GUEST.values())
    found = _found(subject, SIDES) or _found(subject, GUEST)
    kinds = [kind for kind in style.ORDER if any(kind in spreads for spreads in found.values())]
    if not kinds:
        return style.nothing(subject, TITLE, "there are no ops whose time was measured", ax)
    if ax is not None:
        for kind in kinds:
            _draw(ax, kind, _of(found, kind), together=True)
        _label([ax], _ends(found))
        _label_shares(ax)
        ax.legend(
            loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8, handlelength=2.6
        )
        return style.figure_of(ax)
    side = next(iter(found))
    drawn = sum(max(spread.ops for spread in _of(found, kind).values()) for kind in kinds)
    down = math.ceil(len(kinds) / _ACROSS)
    notes = ["to the left is faster"]
    if side in GUEST:
        notes.append("times are from submission to completion: neither side was measured")
    figure = style.new_figure(subject, TITLE, 3.4 * down + 4.2, drawn, *notes)
    layout: Any = figure.get_layout_engine()
    layout.set(w_pad=0.12)  # inches: the labels at the ends of neighbouring axes
    across = min(_ACROSS, len(kinds))
    grid = figure.add_gridspec(down + 1, across, height_ratios=[*[3.4] * down, 2.8])
    panels: list[Axes] = []
    for at, kind in enumerate(kinds):
        first = panels[0] if panels else None
        axes = figure.add_subplot(grid[at // across, at % across], sharex=first, sharey=first)
        _draw(axes, kind, _of(found, kind))
        axes.tick_params(labelleft=at % across == 0, labelbottom=at + across >= len(kinds))
        panels.append(axes)
    # the lowest panel of each column has the labels, even if the last row is not full
    _label(panels[max(0, len(kinds) - across) :], _ends(found))
    for axes in panels[::across]:
        _label_shares(axes)
    draw_waits(figure.add_subplot(grid[down, :]), subject, (SIDES | GUEST)[side], side)
    return figure


def _of(found: Spreads, kind: str) -> dict[str, Spread]:
    return {side: spreads[kind] for side, spreads in found.items() if kind in spreads}


def _found(subject: Subject, sides: dict[str, str]) -> Spreads:
    """Return the spreads of the sides that were measured."""
    spreads = {side: _spreads(subject, column) for side, column in sides.items()}
    return {side: kinds for side, kinds in spreads.items() if kinds}


def _spreads(subject: Subject, column: str) -> dict[str, Spread]:
    """Return the spread of each kind that has measured ops."""
    groups = (
        subject.ops.filter(pl.col("completed").is_not_null(), pl.col(column) > 0)
        .group_by("kind", bin=(pl.col(column).log10() * PER_DECADE).floor().cast(pl.Int64))
        .agg(pl.len().cast(pl.Int64), longest=pl.col(column).max())
        .sort("bin")
        .collect(engine="streaming")
    )
    return {
        str(kind): Spread(rows["bin"].to_numpy(), rows["len"].to_numpy(), rows["longest"].max())  # type: ignore[arg-type]
        for (kind,), rows in groups.group_by("kind", maintain_order=True)
    }


def _ends(found: Spreads) -> tuple[float, float]:
    """Return the ends of the axis of times: whole powers of ten, so that there are at least two
    labels."""
    spreads = [spread for kinds in found.values() for spread in kinds.values()]
    shortest = min(int(spread.bins[0]) for spread in spreads)
    longest = max(spread.longest for spread in spreads)
    return 10 ** math.floor(shortest / PER_DECADE), 10 ** (math.floor(math.log10(longest)) + 1)


def _odds(share: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return where a share is on its axis, which has as much room for the slowest ops as for the
    others: the logarithm of the odds. 0 and 1, which have none, are beyond the ends."""
    share = np.clip(share, LOWEST / 10, 1 - (1 - HIGHEST) / 10)
    return np.log10(share / (1 - share))


def _share(odds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1 / (1 + 10 ** -np.clip(odds, -9, 9))


def _draw(axes: Axes, kind: str, spreads: dict[str, Spread], together: bool = False) -> None:
    """Draw the curves of one kind. ``together``: other kinds are in the same panel."""
    colour, dashes = style.LINES[kind] if together else (style.LINES[kind][0], "-")
    own = (colour, dashes, 2.2)
    reference = (colour if together else "black", (0, (4, 2)), 1.2)
    looks = {"test": own, "guest": own, "reference": reference}
    axes.set_xscale("log")
    axes.set_yscale("function", functions=(_odds, _share))
    for side, spread in spreads.items():
        ends, shares = spread.steps
        start = 10 ** (spread.bins[0] / PER_DECADE)
        ink, line, width = looks[side]
        numbers = [*(spread.quantile(share) for share in NUMBERS.values()), spread.longest]
        summary = " / ".join(style.short(ns, style.TIMES) for ns in numbers)
        axes.step(
            np.concatenate([[start], ends]), np.concatenate([[0], shares]), where="post",
            color=ink, ls=line, lw=width,
            label=f"{kind}, {side}" if together else f"{side}: {summary}",
        )  # fmt: skip
    axes.set_ylim(LOWEST, HIGHEST)
    axes.yaxis.set_major_locator(FixedLocator(SHARES))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.6g} %"))
    axes.xaxis.set_major_locator(LogLocator(numticks=7))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ns, _: style.short(ns, style.TIMES)))
    axes.grid(color=style.FAINT, lw=0.5)
    axes.tick_params(labelsize=8)
    if not together:
        ops = max(spread.ops for spread in spreads.values())
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.02, 0.98), frameon=False, fontsize=9,
            handlelength=2.6, title=f"{kind}: {ops:,} ({' / '.join([*NUMBERS, 'longest'])})",
            alignment="left", title_fontsize=9,
        )  # fmt: skip


def _label(panels: list[Axes], ends: tuple[float, float]) -> None:
    for axes in panels:
        axes.set_xlim(*ends)
        axes.set_xlabel("latency")


def _label_shares(axes: Axes) -> None:
    axes.set_ylabel("share of ops")
