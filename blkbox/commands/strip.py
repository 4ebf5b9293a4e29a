"""``trace strip``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from blkbox.commands.options import AsJson


def strip(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="The trace to strip.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT.trace", help="The trace to write.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace an existing trace.")] = False,
    as_json: AsJson = False,
) -> int:
    """Write a copy of a trace without its payloads.

    The copy has digests instead of data, and still replays. It names the host and the driver as its
    source does (see trace show), and its marks.

    Example: trace strip install.trace -o shareable.trace
    """
    from tracer.rework.strip import strip
    from tracer.text import ops, size

    result = strip(trace, out, force=force)
    if as_json:
        print(json.dumps(asdict(result), indent=2))
    else:
        state = "" if result.closed else ", not closed, as its source"
        print(f"trace:  {result.trace} ({ops(result.ops)}, {size(result.trace_bytes)}{state})")
        print("data:   digests only; the host's name, the driver and the marks are still in it")
    return 0
