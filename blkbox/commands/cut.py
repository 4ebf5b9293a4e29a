"""``trace cut``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from blkbox.commands.options import AsJson


def cut(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="The trace to cut from.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT.trace", help="The trace to write.")
    ],
    first: Annotated[
        str, typer.Option("--from", metavar="OP|MARK", help="Start at this op, or at this mark.")
    ] = "0",
    last: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="OP|MARK", help="End after this op, or at this mark [the end]."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing trace.")] = False,
    as_json: AsJson = False,
) -> int:
    """Write a part of a trace as a trace of its own.

    The new trace replays by itself: what the disk held before the part becomes start ops.

    Example: trace cut install.trace --from "partitioned" --to 120000 -o part.trace

    A mark stands before an op. --from MARK starts with that op; --to MARK ends before it.
    """
    from blkbox.jobs import cut
    from tracer.text import ops, size

    result = cut(trace, out, first=first, last=last, force=force)
    if as_json:
        print(json.dumps(asdict(result), indent=2))
    else:
        print(f"cut:    {ops(result.ops)}, #{result.first} to #{result.last}")
        print(f"start:  {ops(result.start_ops)} ({size(result.start_bytes)}) before them")
        payloads = f", payloads {size(result.payload_bytes)}" if result.payload_bytes else ""
        print(f"trace:  {out} ({size(result.trace_bytes)}{payloads})")
    return 0
