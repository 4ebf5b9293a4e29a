"""Draw one picture into a file, as ``trace plot`` does."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Picture(StrEnum):
    """The pictures that can be drawn: ``damage`` of a replay's verdict, the others of a trace."""

    damage = "damage"
    timeline = "timeline"
    latency = "latency"
    throughput = "throughput"
    sizes = "sizes"
    heatmap = "heatmap"


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
    force: bool = False,
) -> Drawn:
    """Draw a picture of ``source``: a trace, or for ``damage`` a file with a verdict.

    ``picture``: the file to write; its suffix selects PNG, SVG or PDF. None: ``TRACE.KIND.png``.
    ``trace``: for ``damage`` the verdict's trace; None: the file that the verdict names.
    ``force``: replace an existing picture.

    Raises UsageError if an argument is wrong or the picture exists, TraceError if the trace cannot
    be read, OSError if the picture cannot be written.
    """
    from tracer.errors import UsageError
    from tracer.files import PICTURES, check_new
    from tracer.progress import bar
    from tracer.verdict_file import find_trace, load

    if trace is not None and kind != Picture.damage:
        raise UsageError(f"--trace goes with damage; {kind} takes the trace itself")
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

    with (
        analysis.open(source) as frames,
        # one more pass over the trace: the frames check and index the records first
        bar("reading", frames.records * (1 + plots.READS[kind]), "ops") as progress,
    ):
        frames.watch = progress
        if verdict is not None:
            figure = plots.damage(frames, verdict)
        else:
            figure = getattr(plots, kind)(frames)
    plots.save(figure, picture)
    return Drawn(source, picture)
