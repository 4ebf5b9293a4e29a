"""What the damage picture shows of a verdict: the sectors to look at closely, and the ops there."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from analysis.frames.frames import WRITERS, Frames
from tracer.errors import UsageError
from tracer.op import SECTOR
from tracer.ranges import RangeSet
from tracer.verdict import BadRead, CulpritOp, Finding, Verdict

CLUSTER = 64 * 1024 // SECTOR
"""Sectors in a cluster of 64 KiB, in which qcow2 allocates by default."""

MAX_ROWS = 32
"""The most ops in the lower part: each has a legible label."""

NEAR = 32 * CLUSTER
"""Sectors that stay legible in one view. Places that lie further apart get two views."""

_NEVER = 1 << 62
"""The completion time, in ns, of an op that never completed."""

_BEGUN = pl.col("submitted").to_physical()
_ENDED = pl.col("completed").to_physical().fill_null(_NEVER)
"""When an op began and ended, in ns."""

Ranges = npt.NDArray[np.int64]
"""Sectors: a row ``[start, end)`` per range, sorted and disjoint."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A verdict, in sectors."""

    size: int
    damage: Ranges
    own: Ranges
    """The damage that the culprit is known to have done."""
    culprit: CulpritOp | None
    place: tuple[int, int] | None
    """The culprit's sectors ``[start, end)``; None if it has none, as a flush."""
    flight: tuple[int, int]
    """When the culprit was submitted and completed, in ns."""
    bad_read: BadRead | None

    @property
    def shades(self) -> list[tuple[Ranges, float]]:
        """The damage, with the opacity it is drawn with.

        If the culprit did only a part of the damage, its part is drawn again on top.
        """
        if not len(self.own) or np.array_equal(self.own, self.damage):
            return [(self.damage, 0.4)]
        return [(self.damage, 0.2), (self.own, 0.4)]

    @property
    def seq(self) -> int:
        """The culprit's seq, or -1, which no op has."""
        return self.culprit.seq if self.culprit else -1

    @property
    def bad_seq(self) -> int:
        """The first bad read's seq, or -1."""
        return self.bad_read.seq if self.bad_read else -1

    @property
    def flags(self) -> list[str]:
        return self.culprit.flags if self.culprit else []

    @property
    def label(self) -> str:
        return f"#{self.culprit.seq} {self.culprit.kind}" if self.culprit else ""


@dataclass(frozen=True, slots=True)
class View:
    """The sectors ``[start, end)`` that a panel of the lower part shows, with its title."""

    start: int
    end: int
    title: str

    @property
    def sectors(self) -> int:
        return self.end - self.start


def scene_of(trace: Frames, verdict: Verdict) -> Scene:
    """Return the scene of a verdict. Raises UsageError if the verdict is about another trace."""
    if verdict.size != trace.header.size:
        raise UsageError(
            f"{trace.path} has a disk of {trace.header.size} bytes, the verdict is about a disk "
            f"of {verdict.size} bytes"
        )
    culprit = verdict.culprit
    place, flight = None, (_NEVER, -1)
    if culprit is not None:
        found = trace.ops.filter(seq=culprit.seq).select(_BEGUN, _ENDED).collect()
        if found.is_empty():
            raise UsageError(f"{trace.path} has no op #{culprit.seq}, which the verdict names")
        flight = found.row(0)
        if culprit.length:
            end = culprit.offset + culprit.length
            place = (culprit.offset // SECTOR, -(-end // SECTOR))
    own = _ranges(verdict.culprit_damage)
    # the culprit's damage counts even if a later op repaired it
    every = _ranges([*verdict.damage, *verdict.culprit_damage])
    return Scene(trace.sectors, every, own, culprit, place, flight, verdict.first_bad_read)


def _ranges(findings: Iterable[Finding]) -> Ranges:
    """Return the sectors of findings as ranges. Findings that overlap or touch make one range."""
    ordered = sorted(findings, key=lambda finding: finding.sector)
    found = RangeSet((finding.start, finding.end) for finding in ordered)
    pairs = [(sector, sector + sectors) for sector, sectors in found.sectors()]
    return np.array(pairs, np.int64).reshape(-1, 2)


def views_of(trace: Frames, scene: Scene) -> list[View]:
    """Return the views of the culprit's sectors and the nearest damage.

    One view shows both if they stay legible in it. Otherwise two views are side by side.
    """
    candidates = scene.own if len(scene.own) else scene.damage
    seen = None
    if scene.bad_read is not None:
        seen = (scene.bad_read.sector, scene.bad_read.sector + 1)
    near = _nearest(candidates, scene.place or seen) if len(candidates) else seen
    if scene.place is None:
        if near is not None:
            return [_view(scene, _grown(candidates, near))]
        last = _last_write(trace, scene.seq)
        return [_view(scene, last, f"changed last before it: {span(*last)}")] if last else []
    if near is None:
        return [_view(scene, scene.place)]
    both = (min(scene.place[0], near[0]), max(scene.place[1], near[1]))
    widest = max(scene.place[1] - scene.place[0], near[1] - near[0])
    if both[1] - both[0] <= max(NEAR, 3 * widest):
        return [_view(scene, _grown(candidates, both))]
    return [_view(scene, place) for place in sorted([scene.place, _grown(candidates, near)])]


def _nearest(ranges: Ranges, place: tuple[int, int] | None) -> tuple[int, int]:
    """Return the range nearest to a place, or the first range if ``place`` is None."""
    place = place or (0, 0)
    apart = np.maximum(ranges[:, 0] - place[1], place[0] - ranges[:, 1])
    start, end = ranges[np.argmin(apart)]
    return int(start), int(end)


def _grown(ranges: Ranges, place: tuple[int, int]) -> tuple[int, int]:
    """Return a place, extended to the damage beside it that fits into a legible view."""
    room = max(0, NEAR - (place[1] - place[0])) // 2
    beside = ranges[(ranges[:, 0] >= place[0] - room) & (ranges[:, 1] <= place[1] + room)]
    if len(beside):
        return min(place[0], int(beside[0, 0])), max(place[1], int(beside[-1, 1]))
    return place


def _last_write(trace: Frames, seq: int) -> tuple[int, int] | None:
    """Return the sectors that were changed last before an op, or None."""
    changed = trace.ops.filter(pl.col("seq") < seq, pl.col("kind").is_in(WRITERS))
    for sector, sectors in changed.select("sector", "sectors").tail(1).collect().rows():
        return sector, sector + sectors
    return None


def _view(scene: Scene, place: tuple[int, int], *words: str) -> View:
    """Return a view of a place with room around it, from cluster boundary to cluster boundary."""
    title = list(words)
    start, end = place
    margin = max((end - start) // 10, CLUSTER // 2)
    start = max(0, (start - margin) // CLUSTER * CLUSTER)
    end = min(scene.size, -(-(end + margin) // CLUSTER) * CLUSTER)
    if scene.place is not None and scene.place[0] < end and scene.place[1] > start:
        title.append(" ".join([f"culprit: {span(*scene.place)}", *scene.flags]))
    inside = scene.damage[(scene.damage[:, 1] > start) & (scene.damage[:, 0] < end)]
    if len(inside) == 1:
        title.append(f"damaged: {span(*inside[0])}")
    elif len(inside):
        total = int((inside[:, 1] - inside[:, 0]).sum())
        title.append(
            f"damaged: {total:,} sectors in {len(inside):,} ranges from {inside[0, 0]:,} on"
        )
    return View(start, end, "; ".join(title))


def find_rows(trace: Frames, scene: Scene, views: list[View]) -> tuple[pl.DataFrame, int]:
    """Return the ops to draw, by seq, and the number of ops that touch the views.

    If there are too many, the most relevant are kept: the culprit and the first bad read, then ops
    in flight with the culprit, then ops that changed damaged sectors, then the nearest by seq.
    """
    offset, length = pl.col("offset_bytes"), pl.col("length_bytes")
    start, end = offset / SECTOR, (offset + length) / SECTOR
    seq = pl.col("seq")
    seen = [(start < view.end) & (end > view.start) & (length > 0) for view in views]
    found = trace.ops.filter(pl.any_horizontal(*seen, seq == scene.seq))
    focus = next((number for number in (scene.seq, scene.bad_seq) if number >= 0), trace.count)
    submitted, ended = scene.flight
    together = (submitted <= _ENDED) & (ended >= _BEGUN) & (seq != scene.seq)

    def damaged(place: pl.Series) -> pl.Series:
        starts, ends = place.struct.field("start"), place.struct.field("end")
        firsts = np.searchsorted(scene.damage[:, 1], starts, "right")
        return pl.Series(firsts < np.searchsorted(scene.damage[:, 0], ends, "left"))

    touches = pl.struct(start=start, end=end).map_batches(damaged, pl.Boolean, is_elementwise=True)
    relevance = (
        pl.when(seq.is_in([scene.seq, scene.bad_seq]))
        .then(0)
        .when(together)
        .then(1)
        .when(pl.col("kind").is_in(WRITERS) & touches)
        .then(2)
        .otherwise(3)
    )
    # the streaming engine keeps only the first rows of a sorted frame
    rows = (
        found.select("seq", "kind", start=start, end=end, together=together, relevance=relevance)
        .sort("relevance", (seq - focus).abs(), "seq")
        .head(MAX_ROWS)
        .collect(engine="streaming")
    )
    return rows.sort("seq"), found.select(pl.len()).collect(engine="streaming").item()


def span(start: int, end: int) -> str:
    return f"sector {start:,}" if end - start == 1 else f"sectors {start:,} to {end - 1:,}"
