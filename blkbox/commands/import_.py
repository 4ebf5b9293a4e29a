"""``trace import``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blkbox.commands.options import AsJson

if TYPE_CHECKING:
    from analysis.interop.importing import Imported


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The other tool's recording.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="X.trace", help="The trace to write.")
    ],
    name: Annotated[
        str | None,
        typer.Option("--format", metavar="F", help="The file's format [from its content]."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="The disk's size [up to the last byte touched, in whole MiB].", metavar="S"
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="The device, if the file has several.", metavar="D")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing trace.")] = False,
    as_json: AsJson = False,
) -> int:
    """Make a trace from another tool's recording.

    The trace can be replayed on a driver, and inspected like a recording.

    Example: trace import writes.log -o writes.trace --size 8G

    docs/interop.md lists the formats, and what is kept of each.
    """
    from analysis.interop.formats import IMPORTS
    from analysis.interop.importing import import_trace
    from tracer.errors import UsageError
    from tracer.text import parse_size

    if name is not None and name not in IMPORTS:
        raise UsageError(f"--format {name!r}: write one of {', '.join(IMPORTS)}")
    disk = None if size is None else parse_size(size)
    made = import_trace(file, output, name=name, size=disk, device=device, force=force)
    print(json.dumps(asdict(made), indent=2) if as_json else _page(made))
    return 0


def _page(made: "Imported") -> str:
    from analysis.interop.formats import IMPORTS
    from tracer.text import printable
    from tracer.text import size as in_words

    lines = [
        f"trace:     {made.trace}",
        f"from:      {made.source} ({IMPORTS[made.format].title})",
        f"disk:      {in_words(made.size)}"
        + (f", device {printable(made.device)}" if made.device else ""),
        f"ops:       {made.ops:,}",
        f"payloads:  {'those of the file' if made.payloads == 'full' else 'made up'}",
    ]
    lines += [
        f"left out:  {count:,} {printable(what)}" for what, count in sorted(made.skipped.items())
    ]
    return "\n".join(lines)
