"""The grid: the verdict of each trace on each build of a matrix."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.plots import style
from tracer.text import many
from tracer.verdict import VerdictKind

LOOKS: tuple[tuple[VerdictKind | None, str, str], ...] = (
    (VerdictKind.CLEAN, style.GREEN, ""),
    (None, style.UNWRITTEN, ""),
    (VerdictKind.UNDECIDABLE, style.YELLOW, "?"),
    (VerdictKind.FAILED, style.PURPLE, "F"),
    (VerdictKind.DAMAGED, style.VERMILLION, "D"),
)
"""The verdicts with their colours and letters, the best first. None: not run."""

MAX_COLUMNS = 400
"""Columns: three pixels each. With more traces, a column shows the worst of several."""

MAX_ROWS = 120
"""Rows: with more builds, a row shows the worst of several."""

NAMED = 60
"""The most traces that have their names below, and letters in their cells."""


def grid(
    builds: Sequence[str], traces: Sequence[str], verdicts: Sequence[Sequence[VerdictKind | None]]
) -> Figure:
    """Draw the verdicts: a row for each build, a column for each trace. ``verdicts`` has a list for
    each build."""
    numbers = {kind: number for number, (kind, _, _) in enumerate(LOOKS)}
    values = np.array([[numbers[kind] for kind in row] for row in verdicts], dtype=np.int8)
    values = _worst(_worst(values, MAX_COLUMNS, 1), MAX_ROWS, 0)
    rows, columns = values.shape
    names = [style.one_line(name) for name in builds] if rows == len(builds) else []
    longest = max(map(len, traces), default=0) if columns <= NAMED else 0
    figure = Figure(figsize=(12, 1.6 + 0.3 * rows + 0.07 * min(longest, 40)), layout="constrained")
    axes = figure.add_subplot()
    colours = ListedColormap([colour for _, colour, _ in LOOKS])
    norm = BoundaryNorm(np.arange(len(LOOKS) + 1) - 0.5, len(LOOKS))
    axes.pcolormesh(values, cmap=colours, norm=norm, edgecolors="white",
                    linewidth=0.8 if columns <= NAMED else 0)  # fmt: skip
    axes.invert_yaxis()
    axes.set_yticks(np.arange(len(names)) + 0.5, names)
    axes.tick_params(length=0)
    if columns <= NAMED:
        shown = [style.one_line(name)[-40:] for name in traces]
        axes.set_xticks(np.arange(columns) + 0.5, shown, rotation=90, size=8)
        for row, column in np.argwhere(values > 0):
            letter = LOOKS[values[row, column]][2]
            axes.text(column + 0.5, row + 0.5, letter, ha="center", va="center", size=9)
    else:
        axes.set_xticks([])
        each = "" if columns == len(traces) else ", the worst of several in a column"
        axes.set_xlabel(f"{many(len(traces), 'trace')}{each}")
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)
    present = set(np.unique(values).tolist())
    patches = [
        Patch(facecolor=colour, edgecolor="black", linewidth=0.4,
              label=f"{kind or 'not run'}{f' ({letter})' if letter else ''}")
        for number, (kind, colour, letter) in enumerate(LOOKS) if number in present
    ]  # fmt: skip
    figure.legend(handles=patches, loc="outside upper right", ncols=len(patches), frameon=False)
    figure.suptitle("every trace on every build", x=0.01, ha="left", size=15, weight="bold")
    return figure


def _worst(values: "np.ndarray[tuple[int, int], np.dtype[np.int8]]", most: int,
           axis: int) -> "np.ndarray[tuple[int, int], np.dtype[np.int8]]":  # fmt: skip
    """Return at most so many rows or columns: each is the worst of its part."""
    count = values.shape[axis]
    if count <= most:
        return values
    starts = np.linspace(0, count, most, endpoint=False).astype(int)
    worst: np.ndarray[tuple[int, int], np.dtype[np.int8]] = np.maximum.reduceat(
        values, starts, axis
    )
    return worst
