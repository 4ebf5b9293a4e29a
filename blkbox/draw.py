"""Draw one picture, as ``trace plot`` and ``blkbox.plot`` do."""

import re
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from analysis.frames.frames import Frames
    from analysis.plots.subject import Some


class Picture(StrEnum):
    """The pictures that can be drawn: ``damage`` of a replay's verdict, the others of a trace."""

    damage = "damage"
    timeline = "timeline"
    latency = "latency"
    throughput = "throughput"
    sizes = "sizes"
    heatmap = "heatmap"
    below = "below"


OF_A_TRACE = [str(kind) for kind in Picture if kind != Picture.damage]
"""The pictures of a trace."""


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a trace that a picture shows. The default is all of it."""

    first: str | None = None
    last: str | None = None
    """The first and the last op, as numbers in text or marks, as for ``trace cut``."""
    sectors: str | None = None
    """The first and the last sector, as in ``2048-4095``; or one sector."""


WHOLE = Part()


@dataclass(frozen=True, slots=True)
class Drawn:
    """The trace that was drawn, and the picture's file."""

    trace: Path
    picture: Path


def draw(
    kind: Picture,
    source: Path,
    picture: Path | None = None,
    *,
    trace: Path | None = None,
    part: Part = WHOLE,
    dpi: int | None = None,
    force: bool = False,
) -> Drawn:
    """Draw a picture of ``source``: a trace, or for ``damage`` a file with a verdict.

    ``picture``: the file to write; its suffix selects PNG, SVG or PDF. None: ``TRACE.KIND.png``.
    ``trace``: for ``damage`` the verdict's trace; None: the file that the verdict names.
    ``part``: the part of the trace to draw; not for ``damage``, which selects its own.
    ``dpi``: pixels per inch of a PNG; None: 150.
    ``force``: replace an existing picture.

    Raises UsageError if an argument is wrong or the picture exists, TraceError if the trace cannot
    be read, StorageError if the picture cannot be written.
    """
    from tracer.files import PICTURES, check_new
    from tracer.progress import bar
    from tracer.verdict_file import find_trace, load

    if trace is not None and kind != Picture.damage:
        raise UsageError(f"--trace goes with damage; {kind} takes the trace itself")
    if part != WHOLE and kind == Picture.damage:
        raise UsageError(
            "--from, --to and --sectors do not go with damage, which shows the culprit"
        )
    if dpi is not None and picture is not None and picture.suffix.lower() != ".png":
        raise UsageError(f"--dpi goes with a PNG; {picture} has no pixels")
    sectors = _sectors(part.sectors)
    if picture is not None:
        check_new(picture, force, PICTURES)
    verdict = None
    if kind == Picture.damage:
        verdict = load(source)
        source = trace if trace is not None else find_trace(verdict, source)
    if picture is None:
        picture = Path(f"{source.stem}.{kind}.png")
        check_new(picture, force)

    import analysis
    from analysis import plots

    plots.check_dpi(dpi)
    with (
        analysis.open(source) as frames,
        # one more pass over the trace: the frames check and index the records first
        bar("reading", frames.records * (1 + plots.READS[kind]), "ops") as progress,
    ):
        frames.watch = progress
        if verdict is not None:
            figure = plots.damage(frames, verdict)
        else:
            if sectors is not None:
                frames.check_sector(sectors.stop - 1)
            ops = _ops(frames, part)
            figure = getattr(plots, kind)(frames, ops=ops, sectors=sectors)
    plots.save(figure, picture, dpi)
    return Drawn(source, picture)


def plot(
    kind: str,
    trace: "Frames | str | PathLike[str]",
    picture: "str | PathLike[str] | None" = None,
    *,
    ops: "Some | None" = None,
    sectors: range | None = None,
    ax: "Axes | None" = None,
    dpi: int | None = None,
    force: bool = False,
) -> "Figure":
    """Draw a picture of a trace. Return it as a matplotlib Figure.

    ``kind``: timeline, latency, throughput, sizes, heatmap or below (docs/plots.md).
    ``trace``: the trace, opened or as a path.
    ``picture``: a file to write too. Its suffix selects PNG, SVG or PDF.
    ``ops``: the ops to draw, a filtered frame of ``open(trace).ops``; None: all.
    ``sectors``: the part of the disk to draw; None: the whole disk.
    ``ax``: draw into these axes.
    ``dpi``: pixels per inch of a PNG; None: 150.
    ``force``: replace an existing picture.

    Raises UsageError if an argument is wrong or the picture exists, TraceError if the trace cannot
    be read, StorageError if the picture cannot be written.
    """
    from analysis import plots
    from blkbox.jobs import open
    from tracer.files import PICTURES, check_new

    if kind not in OF_A_TRACE:
        also = "; draw_damage draws damage" if kind == Picture.damage else ""
        raise UsageError(f"{kind!r} is not a picture: write one of {', '.join(OF_A_TRACE)}{also}")
    plots.check_dpi(dpi)
    if picture is not None:
        check_new(Path(picture), force, PICTURES)
    with ExitStack() as stack:
        is_path = isinstance(trace, str | PathLike)
        frames = stack.enter_context(open(trace)) if is_path else trace  # type: ignore[arg-type]
        figure: Figure = getattr(plots, kind)(frames, ops=ops, sectors=sectors, ax=ax)
    if picture is not None:
        plots.save(figure, Path(picture), dpi)
    return figure


def _sectors(text: str | None) -> range | None:
    """Return the sectors that ``text`` names: ``2048-4095``, or ``2048``. Raises UsageError."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,19})(?:-([0-9]{1,19}))?", text)
    if match is None:
        raise UsageError(
            f"{text!r} is not a range of sectors: write the first and the last, as in 2048-4095"
        )
    first, last = int(match[1]), int(match[2] or match[1])
    if first > last:
        raise UsageError(f"the range of sectors {text} ends before it begins")
    return range(first, last + 1)


def _ops(frames: "Frames", part: Part) -> "Some | None":
    """Return the ops from the first to the last of a part; None for all. Raises UsageError."""
    if part.first is None and part.last is None:
        return None
    import polars as pl

    from tracer.trace.file import Trace
    from tracer.trace.marks import resolve, resolve_upto

    with Trace(frames.path) as trace:
        first = 0 if part.first is None else resolve(trace, part.first)
        upto = frames.last + 1 if part.last is None else resolve_upto(trace, part.last)
    if first >= upto:
        raise UsageError(f"there are no ops from #{first} to #{upto - 1}")
    return frames.ops.filter(pl.col("seq").is_between(first, upto - 1))
