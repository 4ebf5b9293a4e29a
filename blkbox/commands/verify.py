"""``trace verify``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from blkbox.commands.options import AsJson


def verify(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="The trace to verify.")],
    as_json: AsJson = False,
) -> int:
    """Check that a trace and its payloads are complete.

    The trace must be closed, and no payload may be missing or damaged.

    Example: trace verify install.trace

    Exits with 0 if the trace is complete, and with 201 if not.
    """
    from tracer.errors import Exit
    from tracer.rework.verify import verify
    from tracer.text import many, ops

    result = verify(trace)
    if as_json:
        print(json.dumps(asdict(result), indent=2))
    else:
        below = f", {many(result.lower, 'payload')} of lower ops" if result.lower else ""
        print(f"{ops(result.ops)}, {many(result.payloads, 'payload')}{below}, "
              f"{'closed' if result.closed else 'not closed'}")  # fmt: skip
        for problem in result.problems:
            print(f"problem: {problem}")
        print("ok" if result.ok else "not ok")
    return Exit.CLEAN if result.ok else Exit.BAD_TRACE
