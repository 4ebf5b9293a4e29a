"""``trace report``."""

import json
from pathlib import Path
from typing import Annotated

import typer


def report(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="VERDICT_OR_TRACE",
            help="What trace replay --json printed, in a file; or a trace.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Where the page goes [NAME.report.html].", metavar="FILE"
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            help="For a verdict: its trace, where that is not what it names.", metavar="TRACE"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing page.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> int:
    """Make one HTML page for a bug report.

    Of what a replay found, or of a recording.

    Example: trace replay install.trace --driver qcow2 --json > verdict.json;
    trace report verdict.json -o report.html

    The page holds the host's name and the bytes of a damaged sector: look at it before you publish it.
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
