"""``trace pack``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from blkbox.commands.options import AsJson


def pack(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the traces.")],
    as_json: AsJson = False,
) -> int:
    """Let the traces of a folder share one store of payloads.

    What several traces wrote is then stored once, in the folder payload-blocks beside them, and
    compressed better. Every verb reads such traces like any other. To move one elsewhere, write a
    copy of its own: trace cut. Run it again after traces came or went: blocks that no trace needs
    are removed.

    Example: trace pack shelf/
    """
    from tracer.rework.pack import pack
    from tracer.text import many, size

    result = pack(folder)
    if as_json:
        print(json.dumps(asdict(result), indent=2))
        return 0
    print(f"packed:  {many(len(result.packed), 'trace')}")
    print(f"size:    {size(result.before)} before, {size(result.after)} now")
    removed = f", {result.removed:,} removed" if result.removed else ""
    print(f"blocks:  {result.blocks:,}{removed}")
    for name, why in result.skipped.items():
        print(f"skipped: {name}: {why}")
    return 0
