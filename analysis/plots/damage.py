"""Pictures for bug reports. They need no display: nothing here touches pyplot.

Colours are Okabe and Ito's, which colour-blind people tell apart; hatches and labels say the same again
for paper without colour.
"""

import textwrap
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
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

from analysis.frames import WRITERS, Recording
from tracer import text
from tracer.errors import UsageError
from tracer.op import SECTOR
from tracer.ranges import RangeSet

DPI = 150
FORMATS = (".png", ".svg", ".pdf")

CLUSTER = 64 * 1024 // SECTOR
"""Sectors in a cluster of 64 KiB, the unit in which qcow2 allocates unless told otherwise."""

MAX_ROWS = 32
"""Ops in the lower part: as many as can have a legible label each."""

MAX_CLUSTER_LINES = 40
"""Cluster boundaries in one view; more would be a grey wash."""

NEAR = 32 * CLUSTER
"""Sectors that one view shows with everything in it still legible; what lies further apart gets two."""

_BLUE, _ORANGE, _PURPLE, _GREEN = "#0072B2", "#E69F00", "#CC79A7", "#009E73"
_YELLOW, _VERMILLION = "#F0E442", "#D55E00"
_UNWRITTEN, _WRITTEN, _BAND, _FAINT = "#F2F2F2", "#BBBBBB", "#FFF6C8", "#D8D8D8"

_CLEAR: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.9, "pad": 1}
"""The ground of words that lines pass behind."""

_LOOKS = {
    "write": (_BLUE, ""),
    "zero": (_ORANGE, "////"),
    "trim": (_PURPLE, "xxxx"),
    "start": (_GREEN, "...."),
    "read": ("white", ""),
    "cache": (_YELLOW, "----"),
    "block_status": ("#DDDDDD", "||||"),
}
"""The fill and hatch of each kind that has a range."""

_COLUMNS = 1500
"""Pieces that a strip tells apart: about one per pixel."""

_VISIBLE = 1 / 400
"""The least width of anything, as part of its axis: some four pixels of a whole row."""

_UNITS = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1))

_NEVER = 1 << 62
"""The completion time, in ns, that stands for none."""

_Ranges = npt.NDArray[np.int64]
"""Sectors: a row ``[start, end)`` per range, sorted and disjoint."""


@dataclass(frozen=True, slots=True)
class _Case:
    """A verdict, in sectors."""

    size: int
    damage: _Ranges
    own: _Ranges
    """The part of the damage that is known to be the culprit's."""
    culprit: Mapping[str, Any] | None
    place: tuple[int, int] | None
    """The culprit's sectors; None where it has none, as a flush."""
    bad_read: Mapping[str, Any] | None

    @property
    def shades(self) -> list[tuple[_Ranges, float]]:
        """The damage and how strongly it is drawn: what the culprit alone did shows where others did
        more."""
        if not len(self.own) or np.array_equal(self.own, self.damage):
            return [(self.damage, 0.4)]
        return [(self.damage, 0.2), (self.own, 0.4)]

    @property
    def seq(self) -> int:
        """The culprit's, or -1, which no op has."""
        return int(self.culprit["seq"]) if self.culprit else -1

    @property
    def bad_seq(self) -> int:
        """The first bad read's, or -1."""
        return int(self.bad_read["seq"]) if self.bad_read else -1

    @property
    def flags(self) -> list[str]:
        return list(self.culprit["flags"]) if self.culprit else []

    @property
    def label(self) -> str:
        return f"#{self.culprit['seq']} {self.culprit['kind']}" if self.culprit else ""


@dataclass(frozen=True, slots=True)
class _View:
    """Sectors that the lower part shows, and what they are shown for."""

    start: int
    end: int
    title: str

    @property
    def sectors(self) -> int:
        return self.end - self.start


def damage(trace: Recording, verdict: Mapping[str, Any]) -> Figure:
    """What a replay found, from the object that ``trace replay --json`` prints.

    Above is the whole disk, below the ops around the culprit that touch its sectors or the damage
    nearest to them. Raises UsageError where the verdict is about another trace, and TraceError.
    """
    case = _case(trace, verdict)
    views = _views(trace, case)
    rows, touching = _rows(trace, case, views)
    reason = textwrap.wrap(_plain(verdict["reason"]), 130, max_lines=3, placeholder=" ...")
    heights = [1.15, 0.2 * max(len(rows), 5)] if views else [1.15]
    figure = Figure(
        figsize=(12, sum(heights) + (2.4 if views else 1.6) + 0.2 * len(reason)), layout="constrained"
    )
    grid = figure.add_gridspec(len(heights), max(1, len(views)), height_ratios=heights)
    figure.suptitle(
        _headline(verdict, case), x=0.01, ha="left", size=15, weight="bold", parse_math=False
    )
    strip = figure.add_subplot(grid[0, :])
    strip.set_title("\n".join(reason), loc="left", size=11, parse_math=False)
    _draw_strip(strip, trace, case)
    panels: list[Axes] = []
    for column, view in enumerate(views):
        panel = figure.add_subplot(grid[1, column], sharey=panels[0] if panels else None)
        _draw_view(panel, case, view, rows, 104 // len(views))
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
        _label_rows(panels[0], case, rows)
    figure.legend(
        handles=_legend(case, rows), loc="outside lower left", ncols=10, frameon=False,
        title=_caption(trace, case, views, len(rows), touching), alignment="left",
    )  # fmt: skip
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the path's suffix names. Raises UsageError for another than
    FORMATS. The same figure gives the same bytes."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(f"cannot draw {path}: the name must end in {', '.join(FORMATS)}")
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix)
    with mpl.rc_context({"svg.hashsalt": "blkbox"}), warnings.catch_warnings():
        # a name in a script that our font lacks is drawn as boxes, which needs no words on stderr
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(path, format=suffix[1:], dpi=DPI, metadata=undated)


def _case(trace: Recording, verdict: Mapping[str, Any]) -> _Case:
    if verdict["size"] != trace.header.size:
        raise UsageError(
            f"{trace.path} has a disk of {trace.header.size} bytes, the verdict is about one of "
            f"{verdict['size']}"
        )
    culprit = verdict["culprit"]
    place = None
    if culprit is not None:
        if trace.ops.select("seq").filter(seq=culprit["seq"]).collect().is_empty():
            raise UsageError(f"{trace.path} has no op #{culprit['seq']}, which the verdict names")
        if culprit["length"]:
            end = culprit["offset"] + culprit["length"]
            place = (culprit["offset"] // SECTOR, -(-end // SECTOR))
    own = _ranges(verdict["culprit_damage"])
    # what the culprit alone damaged may have been put right since: it is damage all the same
    every = _ranges([*verdict["damage"], *verdict["culprit_damage"]])
    return _Case(trace.sectors, every, own, culprit, place, verdict["first_bad_read"])


def _ranges(items: list[dict[str, int]]) -> _Ranges:
    """Sorted, with those that overlap or touch made one."""
    pairs = sorted((item["sector"], item["sector"] + item["sectors"]) for item in items)
    return np.array(list(RangeSet(pairs)), np.int64).reshape(-1, 2)


def _views(trace: Recording, case: _Case) -> list[_View]:
    """What to look at closely: the culprit's sectors and the nearest damage, in one view where both
    are legible in one, else side by side."""
    candidates = case.own if len(case.own) else case.damage
    seen = None
    if case.bad_read is not None:
        seen = (case.bad_read["sector"], case.bad_read["sector"] + 1)
    near = _nearest(candidates, case.place or seen) if len(candidates) else seen
    if case.place is None:
        if near is not None:
            return [_view(case, _grown(candidates, near))]
        last = _last_write(trace, case.seq)
        return [_view(case, last, f"changed last before it: {_span(*last)}")] if last else []
    if near is None:
        return [_view(case, case.place)]
    both = (min(case.place[0], near[0]), max(case.place[1], near[1]))
    widest = max(case.place[1] - case.place[0], near[1] - near[0])
    if both[1] - both[0] <= max(NEAR, 3 * widest):
        return [_view(case, _grown(candidates, both))]
    return [_view(case, place) for place in sorted([case.place, _grown(candidates, near)])]


def _nearest(ranges: _Ranges, place: tuple[int, int] | None) -> tuple[int, int]:
    """The range nearest to a place; the first where there is none."""
    place = place or (0, 0)
    apart = np.maximum(ranges[:, 0] - place[1], place[0] - ranges[:, 1])
    start, end = ranges[np.argmin(apart)]
    return int(start), int(end)


def _grown(ranges: _Ranges, place: tuple[int, int]) -> tuple[int, int]:
    """A place with the damage beside it that fits into a legible view."""
    room = max(0, NEAR - (place[1] - place[0])) // 2
    beside = ranges[(ranges[:, 0] >= place[0] - room) & (ranges[:, 1] <= place[1] + room)]
    if len(beside):
        return min(place[0], int(beside[0, 0])), max(place[1], int(beside[-1, 1]))
    return place


def _last_write(trace: Recording, seq: int) -> tuple[int, int] | None:
    """The sectors last changed before an op that has none of its own."""
    changed = trace.ops.filter(pl.col("seq") < seq, pl.col("kind").is_in(WRITERS))
    for sector, sectors in changed.select("sector", "sectors").tail(1).collect().rows():
        return sector, sector + sectors
    return None


def _view(case: _Case, place: tuple[int, int], *words: str) -> _View:
    """A place with room around it, from cluster boundary to cluster boundary."""
    told = list(words)
    start, end = place
    margin = max((end - start) // 10, CLUSTER // 2)
    start = max(0, (start - margin) // CLUSTER * CLUSTER)
    end = min(case.size, -(-(end + margin) // CLUSTER) * CLUSTER)
    if case.place is not None and case.place[0] < end and case.place[1] > start:
        told.append(" ".join([f"culprit: {_span(*case.place)}", *case.flags]))
    inside = case.damage[(case.damage[:, 1] > start) & (case.damage[:, 0] < end)]
    if len(inside) == 1:
        told.append(f"damaged: {_span(*inside[0])}")
    elif len(inside):
        total = int((inside[:, 1] - inside[:, 0]).sum())
        told.append(f"damaged: {total:,} sectors in {len(inside):,} ranges from {inside[0, 0]:,} on")
    return _View(start, end, "; ".join(told))


def _rows(trace: Recording, case: _Case, views: list[_View]) -> tuple[pl.DataFrame, int]:
    """The ops to draw, by seq, and how many touch the views. What tells most comes first: the culprit
    and the first bad read, what was in flight with the culprit, what changed damaged sectors, and then
    what is nearest in time."""
    start, end = pl.col("offset") / SECTOR, (pl.col("offset") + pl.col("length")) / SECTOR
    seq = pl.col("seq")
    seen = [(start < view.end) & (end > view.start) & (pl.col("length") > 0) for view in views]
    found = (
        trace.ops.filter(pl.any_horizontal(*seen, seq == case.seq))
        .select("seq", "kind", "submitted", "completed", start=start, end=end)
        .collect()
    )
    focus = next((one for one in (case.seq, case.bad_seq) if one >= 0), trace.count)
    together = pl.lit(False)
    for submitted, completed in found.filter(seq == case.seq).select("submitted", "completed").rows():
        ended = _NEVER if completed is None else completed
        together = (pl.col("completed").fill_null(_NEVER) >= submitted) & (pl.col("submitted") <= ended)
    firsts = np.searchsorted(case.damage[:, 1], found["start"], "right")
    lasts = np.searchsorted(case.damage[:, 0], found["end"], "left")
    changed = found["kind"].is_in(WRITERS) & pl.Series(firsts < lasts)
    rows = (
        found.with_columns(together=together & (seq != case.seq))
        .with_columns(
            rank=pl.when(seq.is_in([case.seq, case.bad_seq]))
            .then(0)
            .when("together")
            .then(1)
            .when(changed)
            .then(2)
            .otherwise(3),
            apart=(seq - focus).abs(),
        )
        .sort("rank", "apart", "seq")
        .head(MAX_ROWS)
        .sort("seq")
    )
    return rows, len(found)


def _draw_strip(axes: Axes, trace: Recording, case: _Case) -> None:
    """The whole disk, in one line."""
    least = case.size * _VISIBLE
    writes = (
        trace.ops.filter(pl.col("kind").is_in(["write", "start"]))
        .select("sector", end=pl.col("sector") + pl.col("sectors"))
        .collect()
    )
    axes.set(xlim=(0, case.size), ylim=(0, 1), yticks=[])
    _boxes(axes, np.array([[0, case.size]]), 0.3, 0.7, color=_UNWRITTEN)
    _boxes(axes, _coarse(writes.to_numpy().astype(np.int64), case.size), 0.3, 0.7, color=_WRITTEN)
    damaged = _coarse(case.damage, case.size)
    _boxes(axes, damaged, 0.3, 0.7, least, color=_VERMILLION, zorder=3)
    if len(damaged):
        marks = damaged.mean(axis=1), np.full(len(damaged), 0.85)
        axes.plot(*marks, "v", color=_VERMILLION, ms=7, mec="none", clip_on=False, zorder=4)
    if case.place is not None:
        middle = sum(case.place) / 2
        _boxes(
            axes, np.array([case.place]), 0.3, 0.7, least, facecolor="none", edgecolor="black", zorder=5
        )
        axes.plot(middle, 0.15, "^", color="black", ms=7, clip_on=False, zorder=6)
        left = middle > 0.8 * case.size
        axes.annotate(
            case.label, (middle, 0.15), (-8 if left else 8, 0), textcoords="offset points",
            ha="right" if left else "left", va="center", weight="bold", size=9,
        )  # fmt: skip
    above: Any = axes.secondary_xaxis("top")
    above.set_xlabel("sector")
    for axis in (axes, above):
        _ticks(axis, 0, case.size, 104)
    size = case.size * SECTOR
    name, unit = next((name, unit) for name, unit in _UNITS if size >= 8 * unit or unit == 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x * SECTOR / unit:,g} {name}"))
    for label in axes.get_xticklabels():
        label.set_bbox(_CLEAR)


def _draw_view(axes: Axes, case: _Case, view: _View, rows: pl.DataFrame, room: int) -> None:
    """The ops that touch a view, one below the other."""
    least = view.sectors * _VISIBLE
    axes.set(xlim=(view.start, view.end), ylim=(max(len(rows), 5) - 0.5, -0.5))
    axes.set_title(view.title, loc="left", size=9, parse_math=False, bbox=_CLEAR)
    if view.sectors // CLUSTER <= MAX_CLUSTER_LINES:
        for edge in range(view.start, view.end, CLUSTER):
            axes.axvline(edge, color="#888888", lw=0.8, ls=":", zorder=1)
    for ranges, alpha in case.shades:
        inside = ranges[(ranges[:, 1] > view.start) & (ranges[:, 0] < view.end)]
        shade = _coarse(inside - view.start, view.sectors) + view.start
        _boxes(
            axes, shade, -1, len(rows) + 5, least,
            facecolor=(_VERMILLION, alpha), edgecolor=_VERMILLION, lw=0.7, zorder=0.5,
        )  # fmt: skip
    for row, (seq, kind, *ends) in enumerate(rows.select("seq", "kind", "start", "end").rows()):
        axes.axhline(row, color=_FAINT, lw=0.5, zorder=0.8)
        if seq == case.seq:
            axes.axhspan(row - 0.5, row + 0.5, color=_BAND, zorder=0.4)
        if case.place is None and seq == case.seq:
            axes.axhline(row, color="black", lw=2, ls="--", zorder=4)
            _note(axes, view, row, (view.start, view.start), case.label)
        if ends[0] >= view.end or ends[1] <= view.start or kind not in _LOOKS:
            continue
        span = (max(ends[0], view.start), min(ends[1], view.end))
        colour, hatch = _LOOKS[kind]
        _boxes(
            axes, np.array([span]), row - 0.36, row + 0.36, least, facecolor=colour, edgecolor="black",
            hatch=hatch, lw=2 if seq == case.seq else 0.6, zorder=4 if seq == case.seq else 3,
        )  # fmt: skip
        if seq == case.seq:
            _note(axes, view, row, span, case.label)
        elif seq == case.bad_seq:
            _note(axes, view, row, span, "first wrong read")
    _ticks(axes, view.start, view.end, room)
    axes.set_xlabel(f"sector ({text.size(view.sectors * SECTOR)} shown)")


def _note(axes: Axes, view: _View, row: int, span: tuple[float, float], note: str) -> None:
    """Say beside a bar what it is, on the side that has more room."""
    start, end = span
    left = start - view.start > view.end - end
    axes.annotate(
        note, (start if left else end, row), (-8 if left else 8, 0), textcoords="offset points",
        ha="right" if left else "left", va="center", weight="bold", size=9, zorder=6,
        bbox=_CLEAR,
    )  # fmt: skip


def _label_rows(axes: Axes, case: _Case, rows: pl.DataFrame) -> None:
    """Name every op at its row."""
    labels = [
        f"{'∥ ' if together else ''}#{seq} {kind}"
        for seq, kind, together in rows.select("seq", "kind", "together").rows()
    ]
    axes.set_yticks(range(len(rows)), labels, size=8)
    for tick, seq in zip(axes.get_yticklabels(), rows["seq"], strict=True):
        if seq == case.seq:
            tick.set_fontweight("bold")
    axes.set_ylabel("op number")


def _legend(case: _Case, rows: pl.DataFrame) -> list[Artist]:
    handles: list[Artist] = [Patch(color=_WRITTEN, label="written")]
    if len(case.damage):
        clear = 1.0
        for (_, alpha), label in zip(case.shades, ("damaged", "damaged by the culprit"), strict=False):
            clear *= 1 - alpha  # the second shade lies on the first
            handles.append(Patch(fc=(_VERMILLION, 1 - clear), ec=_VERMILLION, lw=0.7, label=label))
    for kind, (colour, hatch) in _LOOKS.items():
        if kind in rows["kind"]:
            handles.append(Patch(facecolor=colour, edgecolor="black", hatch=hatch, lw=0.6, label=kind))
    if rows["together"].any():
        handles.append(Line2D([], [], ls="", label="∥  in flight with the culprit"))
    return handles


def _caption(trace: Recording, case: _Case, views: list[_View], drawn: int, touching: int) -> str:
    words = [f"{_plain(trace.path.name)}: {text.size(trace.header.size)}, {trace.count:,} ops"]
    if views:
        how_many = f"all {touching:,}" if drawn == touching else f"{drawn:,} of the {touching:,}"
        words.append(f"shown: {how_many} on these sectors, later ones lower")
    if any(view.sectors // CLUSTER <= MAX_CLUSTER_LINES for view in views):
        words.append("dotted: clusters of 64 KiB")
    outside = np.ones(len(case.damage), np.bool_)
    for view in views:
        outside &= (case.damage[:, 1] <= view.start) | (case.damage[:, 0] >= view.end)
    if outside.any():
        words.append(f"{outside.sum():,} of {len(outside):,} damaged ranges lie outside")
    return "; ".join(words)


def _headline(verdict: Mapping[str, Any], case: _Case) -> str:
    told = f"{_plain(verdict['driver'])}: {verdict['verdict']}"
    if case.culprit is None:
        return told
    return f"{told} {'by' if verdict['verdict'] == 'damaged' else 'at'} {case.label}"


def _coarse(ranges: _Ranges, size: int) -> _Ranges:
    """Ranges of ``[0, size)``, in any order, as few as a picture tells apart."""
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
    """One box per range, none narrower than ``least``."""
    middle, half = ranges.mean(axis=1), np.maximum(ranges[:, 1] - ranges[:, 0], least) / 2
    left, right = middle - half, middle + half
    low, high = np.full(len(ranges), bottom), np.full(len(ranges), top)
    corners = np.stack([left, low, left, high, right, high, right, low], axis=1).reshape(-1, 4, 2)
    axes.add_collection(PolyCollection(list(corners), **look), autolim=False)


def _ticks(axes: Axes, start: int, end: int, room: int) -> None:
    """Sectors that are multiples of a power of two: cluster boundaries, where clusters can be seen.
    ``room`` is how many digits fit side by side."""
    step = 1
    while (end - start) // step > min(8, room // len(f"{end:,}")):
        step *= 2
    axes.set_xticks(range(-(-start // step) * step, end + 1, step))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda sector, _: f"{int(sector):,}"))
    axes.tick_params(labelsize=9)


def _span(start: int, end: int) -> str:
    return f"sector {start:,}" if end - start == 1 else f"sectors {start:,} to {end - 1:,}"


def _plain(words: object) -> str:
    """Words from a trace in one line that can be drawn."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(words)).split())
