"""``trace mark``."""

import json
from pathlib import Path
from typing import Annotated

import typer


def mark(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the moment is called.")],
    trace: Annotated[
        Path | None,
        typer.Option(metavar="X.trace", help="The recording, where several are running."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> int:
    """Name a moment of a running recording.

    "trace replay --upto", "trace cut" and others take the name where they take an op's number.

    Example: trace mark "packages unpacked"

    The recording is the one that --trace names; within a guest's command its own (BLKBOX_CONTROL); else
    the only one of yours that is running.
    """
    from tracer.recording.control import put_mark
    from tracer.text import printable

    answer = put_mark(name, trace)
    if as_json:
        told = {key: answer[key] for key in ("trace", "seq", "time")}
        print(json.dumps({"schema": 1, "name": name, **told}, indent=2))
    else:
        print(f"mark {name} stands before op #{answer['seq']} of {printable(answer['trace'])}")
    return 0
