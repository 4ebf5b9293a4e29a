"""``trace checkout``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from blkbox.commands.options import AsJson


def checkout(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="The trace to read.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="IMAGE", help="The raw image to write.")
    ],
    at: Annotated[
        str | None,
        typer.Option(
            metavar="OP|MARK", help="After this op, or when this mark was set [after the last op]."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing image.")] = False,
    as_json: AsJson = False,
) -> int:
    """Make the disk as it should have been at a moment.

    The result is a sparse raw image.

    Example: trace checkout install.trace --at 1234 -o state.raw

    Trimmed bytes are zeroes, unless the trace was recorded with --trim old-or-zero: then they keep
    their earlier content.
    """
    from tracer.op import sectors as touched
    from tracer.rework.checkout import checkout
    from tracer.text import many, ops, printable, size

    made = checkout(trace, output, at, force=force)
    if as_json:
        print(json.dumps(asdict(made), indent=2))
        return 0
    when = f"after op #{made.before - 1}" if made.before else "before the first op"
    print(
        f"image:   {printable(made.image)} "
        f"({size(made.size)}, of which {size(made.allocated)} on disk)"
    )
    print(f"moment:  {when}: {ops(made.applied)} changed it" +
          (f", {made.failed:,} failed and did not" if made.failed else ""))  # fmt: skip
    if made.open:
        sectors = many(sum(len(touched(*piece)) for piece in made.open), "sector")
        print(f"open:    {sectors} may hold another value, the first is sector "
              f"{touched(*made.open[0]).start}: ops changed them in flight together, and the trace "
              "has no read that tells")  # fmt: skip
    if made.payloads == "hash":
        print("data:    not the guest's: made from digests, since the trace has no payloads")
    return 0
