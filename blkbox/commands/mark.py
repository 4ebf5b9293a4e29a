"""``trace mark``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from blkbox.commands.options import AsJson


def mark(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the moment.")],
    trace: Annotated[
        Path | None,
        typer.Option(metavar="X.trace", help="The recording, if several are running."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Name a moment of a running recording.

    Other verbs accept the name in place of an op's number, for example trace replay --upto.

    Example: trace mark "packages unpacked"

    Without --trace, a guest's command marks its own recording (BLKBOX_CONTROL). Elsewhere, the mark
    goes to your only running recording.
    """
    from tracer.recording.control import put_mark
    from tracer.text import printable

    answer = put_mark(name, trace)
    if as_json:
        place = {key: answer[key] for key in ("trace", "seq", "time")}
        print(json.dumps({"schema": 1, "name": name, **place}, indent=2))
    else:
        print(f"mark {name} stands before op #{answer['seq']} of {printable(answer['trace'])}")
    return 0
