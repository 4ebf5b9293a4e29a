"""The ECDF: which share of a build's ops took how long, before and after."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from analysis.plots import style

MAX_PANELS = 12
"""Builds in a picture: each has a panel."""

Times = npt.NDArray[Any]


def ecdf(
    panels: Sequence[tuple[str, Mapping[str, tuple[Times, Times]]]], before: str, after: str
) -> Figure:
    """Draw the shares of ops over their times: a panel for each build, which has the times in ns by
    kind, before and after. ``before`` and ``after`` name the two sides."""
    shown = panels[:MAX_PANELS]
    figure = Figure(figsize=(12, 1.2 + 2.6 * max(len(shown), 1)), layout="constrained")
    grid = figure.subplots(max(len(shown), 1), 1, squeeze=False, sharex=True)
    kinds: list[str] = []
    for axes, (name, times) in zip(grid[:, 0], shown, strict=False):
        for kind, sides in times.items():
            colour = style.LINES.get(kind, ("black", "-"))[0]
            kinds += [kind] if kind not in kinds else []
            for values, dashes in zip(sides, ((0, (4, 2)), "-"), strict=True):
                ordered = np.sort(np.maximum(values, 1))
                share = np.arange(1, len(ordered) + 1) / len(ordered)
                axes.step(ordered, share, where="post", color=colour, ls=dashes, lw=1.4)
        axes.set_xscale("log")
        axes.set_ylim(0, 1.02)
        axes.set_title(style.one_line(name), loc="left", size=10, parse_math=False)
        axes.set_ylabel("share of ops")
        axes.grid(color=style.FAINT, lw=0.5)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: style.short(x, style.TIMES)))
    grid[-1, 0].set_xlabel("time that the driver took")
    lines = [Line2D([], [], color=style.LINES.get(kind, ("black", "-"))[0], label=kind)
             for kind in kinds]  # fmt: skip
    lines += [Line2D([], [], color="black", ls=dashes, label=style.one_line(side)[-40:])
              for side, dashes in ((before, (0, (4, 2))), (after, "-"))]  # fmt: skip
    figure.legend(handles=lines, loc="outside upper right", ncols=len(lines), frameon=False)
    figure.suptitle("latency before and after", x=0.01, ha="left", size=15, weight="bold")
    return figure
