"""Drivers for ``--driver``: files that name the commands of a server."""

import json
from pathlib import Path

NBDKIT = ["nbdkit", "--foreground", "--unix={socket}", "--exit-with-parent"]
"""nbdkit, to be followed by a plugin."""

IN_MEMORY = 'exec nbdkit --foreground --unix="$1" memory "$3"'
"""The end of a script for ``serve``: a disk in memory."""


def toml(folder: Path, **keys: list[str] | str) -> str:
    """A driver's file, with nbdkit's and its like's commands; its name in the folder."""
    path = folder / "mine.toml"
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()))
    return path.name


def serve(text: str) -> list[str]:
    """A driver in shell; $1 is the socket, $2 the image, $3 the size."""
    return ["sh", "-c", text, "sh", "{socket}", "{image}", "{size}"]
