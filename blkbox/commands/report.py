"""``trace report``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from blkbox.commands.options import AsJson


def report(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="VERDICT_OR_TRACE",
            help="A file with the output of trace replay --json, or a trace.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The page [NAME.report.html].", metavar="FILE"),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(help="For a verdict: its trace [the trace that it names].", metavar="TRACE"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing page.")] = False,
    as_json: AsJson = False,
) -> int:
    """Make one HTML page for a bug report.

    The page describes what a replay found, or a trace.

    Example: trace replay install.trace --driver qcow2 --json > verdict.json;
    trace report verdict.json -o report.html

    The page contains the host's name and the bytes of a damaged sector. Check it before you publish
    it.
    """
    from blkbox.jobs import report

    if output is None:
        output = Path(f"{source.stem}.report.html")
    path = report(source, output, trace=trace, force=force)
    if as_json:
        found = {"schema": 1, "source": str(source), "trace": str(path), "report": str(output)}
        print(json.dumps(found, indent=2))
    else:
        print(f"report: {output}")
    return 0
