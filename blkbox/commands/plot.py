"""``trace plot``."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Picture(StrEnum):
    damage = "damage"
    timeline = "timeline"
    latency = "latency"
    throughput = "throughput"
    sizes = "sizes"
    heatmap = "heatmap"


def plot(
    kind: Annotated[Picture, typer.Argument(metavar="KIND", help="What to draw.")],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="TRACE_OR_VERDICT",
            help="The trace to draw; for damage, what trace replay --json printed.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Where the picture goes [TRACE.KIND.png].", metavar="FILE"
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(help="For damage: the trace, where it is not what the verdict names."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing picture.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> int:
    """Draw a picture of a trace, or of damage.

    As PNG, SVG or PDF.

    Example: trace plot timeline install.trace -o install.svg
    """
    from tracer.errors import UsageError
    from tracer.files import PICTURES, check_new
    from tracer.progress import bar

    if trace is not None and kind != Picture.damage:
        raise UsageError(f"--trace goes with damage; {kind} wants a trace itself")
    if output is not None:
        check_new(output, force, PICTURES)
    verdict = None
    if kind == Picture.damage:
        from tracer.verdict_file import find_trace, load

        verdict = load(source)
        source = trace if trace is not None else find_trace(verdict, source)
    if output is None:
        output = Path(f"{source.stem}.{kind}.png")
        check_new(output, force)

    import analysis
    from analysis import plots

    with (
        analysis.open(source) as recording,
        # before ops can be read they are sought, which is one more time through the trace
        bar("reading", recording.records * (1 + plots.READS[kind]), "ops") as progress,
    ):
        recording.watch = progress
        if verdict is not None:
            figure = plots.damage(recording, verdict)
        else:
            figure = getattr(plots, kind)(recording)
    plots.save(figure, output)
    if as_json:
        found = {"schema": 1, "kind": kind, "trace": str(source), "plot": str(output)}
        print(json.dumps(found, indent=2))
    else:
        print(f"plot: {output}")
    return 0
