"""``trace export``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from blkbox.commands.options import AsJson


def export(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="The trace to export.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.")
    ],
    name: Annotated[
        str | None,
        typer.Option("--format", metavar="F", help="The file's format [from its suffix]."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: AsJson = False,
) -> int:
    """Write a trace as another tool's file.

    Example: trace export install.trace -o install.parquet

    docs/interop.md lists the formats, and what each of them leaves out.
    """
    from analysis.interop.exporting import export_trace
    from analysis.interop.formats import EXPORTS
    from tracer.errors import UsageError
    from tracer.text import size

    if name is not None and name not in EXPORTS:
        raise UsageError(f"--format {name!r}: write one of {', '.join(EXPORTS)}")
    made = export_trace(trace, output, name=name, force=force)
    if as_json:
        print(json.dumps(asdict(made), indent=2))
        return 0
    lines = [f"file:      {made.output} ({size(made.bytes)}, {EXPORTS[made.format].title})"]
    lines += [f"left out:  {count:,} {what}" for what, count in sorted(made.left_out.items())]
    print("\n".join(lines))
    return 0
