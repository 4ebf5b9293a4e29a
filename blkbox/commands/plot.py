"""``trace plot``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from blkbox.commands.options import AsJson
from blkbox.draw import Picture


def plot(
    kind: Annotated[Picture, typer.Argument(metavar="KIND", help="What to draw.")],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="TRACE_OR_VERDICT",
            help="The trace; for damage, a file with the output of trace replay --json.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The picture [TRACE.KIND.png].", metavar="FILE"),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(help="For damage: the verdict's trace [the trace that the verdict names]."),
    ] = None,
    first: Annotated[
        str | None,
        typer.Option("--from", metavar="OP|MARK", help="Begin at this op, or at this mark."),
    ] = None,
    last: Annotated[
        str | None,
        typer.Option("--to", metavar="OP|MARK", help="End after this op, or at this mark."),
    ] = None,
    sectors: Annotated[
        str | None,
        typer.Option(metavar="A-B", help="Draw only sectors A to B, and the ops that touch them."),
    ] = None,
    dpi: Annotated[
        int | None,
        typer.Option(metavar="N", help="Pixels per inch of a PNG, which is 12 inches wide [150]."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing picture.")] = False,
    as_json: AsJson = False,
) -> int:
    """Draw a picture of a trace, or of damage.

    KIND is damage, timeline, latency, throughput, sizes, heatmap, or below (of a trace made with
    --below). The suffix of FILE selects PNG, SVG or PDF.

    Example: trace plot timeline install.trace -o install.svg;
    trace plot heatmap install.trace --from partitioned --to 9000 --sectors 2048-4095

    A mark stands before an op. --from MARK starts with that op; --to MARK ends before it.
    """
    from blkbox.draw import Part, draw

    part = Part(first, last, sectors)
    drawn = draw(kind, source, output, trace=trace, part=part, dpi=dpi, force=force)
    if as_json:
        found = {
            "schema": 1, "kind": kind, "trace": str(drawn.trace), "plot": str(drawn.picture),
        }  # fmt: skip
        print(json.dumps(found, indent=2))
    else:
        print(f"plot: {drawn.picture}")
    return 0
