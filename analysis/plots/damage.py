"""The damage picture: the whole disk, and a closer view of the culprit and the damage."""

import textwrap
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import ConnectionPatch, Patch
from matplotlib.ticker import FuncFormatter

from analysis.frames.frames import Frames
from analysis.plots import style
from analysis.plots.closeup import CLUSTER, Ranges, Scene, View, find_rows, scene_of, views_of
from tracer import text
from tracer.errors import UsageError
from tracer.op import SECTOR
from tracer.verdict import Cause, Verdict, VerdictKind

MAX_CLUSTER_LINES = 40
"""The most cluster boundaries drawn in one view: more would be a grey wash."""

MAX_LABEL = 52
"""The most characters of an entry of the legend: two fit beside the kinds of ops."""

_COLUMNS = 1500
"""Columns of the strip: about one per pixel."""

_FINE = 8
"""Parts of a column to which writes are rounded before they are merged: too fine to see."""

_HATCH = "\\"
"""The hatch of damage. Without colour, its shade is like that of written sectors."""

_VISIBLE = 1 / 400
"""The least width of a box, as a share of its axis: about four pixels of a whole row."""


def damage(trace: Frames, verdict: Verdict) -> Figure:
    """Draw what a replay found.

    The upper part is the whole disk. The lower part has the ops around the culprit that touch its
    sectors or the damage nearest to them. Raises UsageError if the verdict is about another trace,
    and TraceError.
    """
    if not isinstance(trace, Frames) or not isinstance(verdict, Verdict):
        found = f"{type(trace).__name__} and {type(verdict).__name__}"
        raise UsageError(f"damage is drawn of a trace and its verdict, not of {found}")
    scene = scene_of(trace, verdict)
    views = views_of(trace, scene)
    rows, touching = find_rows(trace, scene, views)
    reason = textwrap.wrap(style.one_line(verdict.reason), 130, max_lines=3, placeholder=" ...")
    heights = [1.15, 0.2 * max(len(rows), 5)] if views else [1.15]
    figure = Figure(
        figsize=(12, sum(heights) + (2.4 if views else 1.6) + 0.2 * len(reason)),
        layout="constrained",
    )
    grid = figure.add_gridspec(len(heights), max(1, len(views)), height_ratios=heights)
    figure.suptitle(
        _headline(verdict, scene), x=0.01, ha="left", size=15, weight="bold", parse_math=False
    )
    strip = figure.add_subplot(grid[0, :])
    strip.set_title("\n".join(reason), loc="left", size=11, parse_math=False)
    _draw_strip(strip, trace, scene)
    panels: list[Axes] = []
    for column, view in enumerate(views):
        panel = figure.add_subplot(grid[1, column], sharey=panels[0] if panels else None)
        _draw_view(panel, scene, view, rows, 104 // len(views))
        panel.tick_params(axis="y", left=not panels, labelleft=not panels)
        for edge, corner in ((view.start, 0), (view.end, 1)):
            line = ConnectionPatch(
                (edge, 0), (corner, 1), "data", "axes fraction",
                axesA=strip, axesB=panel, color="#999999", lw=0.7, zorder=-1,
            )  # fmt: skip
            line.set_in_layout(False)
            figure.add_artist(line)
        panels.append(panel)
    if panels:
        _label_rows(panels[0], scene, rows)
    figure.legend(
        handles=_legend(scene, rows, verdict), loc="outside lower left", ncols=10, frameon=False,
        title=_caption(trace, scene, views, len(rows), touching), alignment="left",
    )  # fmt: skip
    return figure


def _draw_strip(axes: Axes, trace: Frames, scene: Scene) -> None:
    """Draw the whole disk as one strip."""
    least = scene.size * _VISIBLE
    unit = -(-scene.size // (_FINE * _COLUMNS))
    first, last = pl.col("sector"), pl.col("sector") + pl.col("sectors") - 1
    writes = (
        trace.ops.filter(pl.col("kind").is_in(["write", "start"]))
        .select(first // unit * unit, end=(last // unit + 1) * unit)
        .unique()
        .collect(engine="streaming")
    )
    axes.set(xlim=(0, scene.size), ylim=(0, 1), yticks=[])
    _boxes(axes, np.array([[0, scene.size]]), 0.3, 0.7, color=style.UNWRITTEN)
    _boxes(
        axes, _coarse(writes.to_numpy().astype(np.int64), scene.size), 0.3, 0.7, color=style.WRITTEN
    )
    damaged = _coarse(scene.damage, scene.size)
    _boxes(axes, damaged, 0.3, 0.7, least, color=style.VERMILLION, zorder=3)
    if len(damaged):
        marks = damaged.mean(axis=1), np.full(len(damaged), 0.85)
        axes.plot(*marks, "v", color=style.VERMILLION, ms=7, mec="none", clip_on=False, zorder=4)
    if scene.place is not None:
        middle = sum(scene.place) / 2
        _boxes(
            axes,
            np.array([scene.place]),
            0.3,
            0.7,
            least,
            facecolor="none",
            edgecolor="black",
            zorder=5,
        )
        axes.plot(middle, 0.15, "^", color="black", ms=7, clip_on=False, zorder=6)
        left = middle > 0.8 * scene.size
        axes.annotate(
            scene.label, (middle, 0.15), (-8 if left else 8, 0), textcoords="offset points",
            ha="right" if left else "left", va="center", weight="bold", size=9,
        )  # fmt: skip
    above: Any = axes.secondary_xaxis("top")
    above.set_xlabel("sector")
    _ticks(above, 0, scene.size, 104)
    style.offset_axis(axes.xaxis, scene.size * SECTOR, _most(scene.size, 104), SECTOR)
    axes.tick_params(labelsize=9)
    for label in axes.get_xticklabels():
        label.set_bbox(style.CLEAR)


def _draw_view(axes: Axes, scene: Scene, view: View, rows: pl.DataFrame, room: int) -> None:
    """Draw the ops that touch a view, one below the other."""
    least = view.sectors * _VISIBLE
    axes.set(xlim=(view.start, view.end), ylim=(max(len(rows), 5) - 0.5, -0.5))
    axes.set_title(view.title, loc="left", size=9, parse_math=False, bbox=style.CLEAR)
    if view.sectors // CLUSTER <= MAX_CLUSTER_LINES:
        for edge in range(view.start, view.end, CLUSTER):
            axes.axvline(edge, color="#888888", lw=0.8, ls=":", zorder=1)
    for ranges, alpha in scene.shades:
        inside = ranges[(ranges[:, 1] > view.start) & (ranges[:, 0] < view.end)]
        shade = _coarse(inside - view.start, view.sectors) + view.start
        _boxes(
            axes, shade, -1, len(rows) + 5, least,
            facecolor=(style.VERMILLION, alpha), edgecolor=style.VERMILLION, lw=0.7, hatch=_HATCH,
            zorder=0.5,
        )  # fmt: skip
    for row, (seq, kind, *ends) in enumerate(rows.select("seq", "kind", "start", "end").rows()):
        axes.axhline(row, color=style.FAINT, lw=0.5, zorder=0.8)
        if seq == scene.seq:
            axes.axhspan(row - 0.5, row + 0.5, color=style.BAND, zorder=0.4)
        if scene.place is None and seq == scene.seq:
            axes.axhline(row, color="black", lw=2, ls="--", zorder=4)
            _note(axes, view, row, (view.start, view.start), scene.label)
        if ends[0] >= view.end or ends[1] <= view.start or kind not in style.LOOKS:
            continue
        span = (max(ends[0], view.start), min(ends[1], view.end))
        colour, hatch = style.LOOKS[kind]
        _boxes(
            axes, np.array([span]), row - 0.36, row + 0.36, least, facecolor=colour,
            edgecolor="black", hatch=hatch, lw=2 if seq == scene.seq else 0.6,
            zorder=4 if seq == scene.seq else 3,
        )  # fmt: skip
        if seq == scene.seq:
            _note(axes, view, row, span, scene.label)
        elif seq == scene.bad_seq:
            _note(axes, view, row, span, "first wrong read")
    _ticks(axes, view.start, view.end, room)
    axes.set_xlabel(f"sector ({text.size(view.sectors * SECTOR)} shown)")


def _note(axes: Axes, view: View, row: int, span: tuple[float, float], note: str) -> None:
    """Write a note beside a bar, on the side that has more room."""
    start, end = span
    left = start - view.start > view.end - end
    axes.annotate(
        note, (start if left else end, row), (-8 if left else 8, 0), textcoords="offset points",
        ha="right" if left else "left", va="center", weight="bold", size=9, zorder=6,
        bbox=style.CLEAR,
    )  # fmt: skip


def _label_rows(axes: Axes, scene: Scene, rows: pl.DataFrame) -> None:
    """Label each row with its op."""
    labels = [
        f"{'∥ ' if together else ''}#{seq} {kind}"
        for seq, kind, together in rows.select("seq", "kind", "together").rows()
    ]
    axes.set_yticks(range(len(rows)), labels, size=8)
    for tick, seq in zip(axes.get_yticklabels(), rows["seq"], strict=True):
        if seq == scene.seq:
            tick.set_fontweight("bold")
    axes.set_ylabel("op number")


def _legend(scene: Scene, rows: pl.DataFrame, verdict: Verdict) -> list[Artist]:
    handles: list[Artist] = [Patch(color=style.WRITTEN, label="written")]
    if len(scene.damage):
        clear = 1.0
        every, own = verdict.causes or verdict.culprit_causes, verdict.culprit_causes
        labels = _of_damage("damaged", every), _of_damage("damaged by the culprit", own)
        for (_, alpha), label in zip(scene.shades, labels, strict=False):
            clear *= 1 - alpha  # the second shade is drawn on top of the first
            handles.append(
                Patch(
                    fc=(style.VERMILLION, 1 - clear),
                    ec=style.VERMILLION,
                    lw=0.7,
                    hatch=_HATCH,
                    label=label,
                )
            )
    for kind, (colour, hatch) in style.LOOKS.items():
        if kind in rows["kind"]:
            handles.append(
                Patch(facecolor=colour, edgecolor="black", hatch=hatch, lw=0.6, label=kind)
            )
    if rows["together"].any():
        handles.append(Line2D([], [], ls="", label="∥  in flight with the culprit"))
    return handles


def _of_damage(name: str, causes: list[Cause]) -> str:
    """Return the label of damage: as many causes as fit, in a few words."""
    said = [style.one_line(cause.what) for cause in causes]
    for named in range(len(said), 0, -1):
        more = [f"{len(said) - named:,} more"] if named < len(said) else []
        label = f"{name}: {', '.join([*said[:named], *more])}"
        if len(label) <= MAX_LABEL:
            return label
    return name


def _caption(trace: Frames, scene: Scene, views: list[View], drawn: int, touching: int) -> str:
    name = style.one_line(trace.path.name)
    words = [f"{name}: {text.size(trace.header.size)}, {trace.count:,} ops"]
    if views:
        how_many = f"all {touching:,}" if drawn == touching else f"{drawn:,} of the {touching:,}"
        words.append(f"shown: {how_many} on these sectors, later ones lower")
    if any(view.sectors // CLUSTER <= MAX_CLUSTER_LINES for view in views):
        words.append("dotted: clusters of 64 KiB")
    outside = np.ones(len(scene.damage), np.bool_)
    for view in views:
        outside &= (scene.damage[:, 1] <= view.start) | (scene.damage[:, 0] >= view.end)
    if outside.any():
        words.append(f"{outside.sum():,} of {len(outside):,} damaged ranges lie outside")
    return "; ".join(words)


def _headline(verdict: Verdict, scene: Scene) -> str:
    headline = f"{style.one_line(verdict.driver)}: {verdict.verdict}"
    if scene.culprit is None:
        return headline
    return f"{headline} {'by' if verdict.verdict is VerdictKind.DAMAGED else 'at'} {scene.label}"


def _coarse(ranges: Ranges, size: int) -> Ranges:
    """Merge ranges of ``[0, size)``, in any order, that a picture cannot show apart."""
    if len(ranges) <= 50:
        return ranges
    ranges = np.clip(ranges, 0, size)
    unit = -(-size // _COLUMNS)
    opened = np.bincount(ranges[:, 0] // unit, minlength=_COLUMNS + 1)
    closed = np.bincount(-(-ranges[:, 1] // unit), minlength=_COLUMNS + 1)
    covered = np.cumsum(opened - closed) > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], covered, [False]])))
    return np.minimum(edges.reshape(-1, 2) * unit, size)


def _boxes(
    axes: Axes, ranges: npt.NDArray[Any], bottom: float, top: float, least: float = 0, **look: Any
) -> None:
    """Draw a box for each range, at least ``least`` wide."""
    middle, half = ranges.mean(axis=1), np.maximum(ranges[:, 1] - ranges[:, 0], least) / 2
    left, right = middle - half, middle + half
    low, high = np.full(len(ranges), bottom), np.full(len(ranges), top)
    corners = np.stack([left, low, left, high, right, high, right, low], axis=1).reshape(-1, 4, 2)
    axes.add_collection(PolyCollection(list(corners), **look), autolim=False)


def _ticks(axes: Axes, start: int, end: int, room: int) -> None:
    """Put ticks at multiples of a power of two: at cluster boundaries, if clusters are visible.

    ``room`` is the number of digits that fit side by side.
    """
    axes.set_xticks(style.power_of_two_ticks(start, end, _most(end, room)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda sector, _: f"{int(sector):,}"))
    axes.tick_params(labelsize=9)


def _most(end: int, room: int) -> int:
    """Return how many sector numbers up to ``end`` fit side by side."""
    return min(8, room // len(f"{end:,}"))
