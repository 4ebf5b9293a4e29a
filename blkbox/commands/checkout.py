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
    state: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="The driver's own image after a power cut: the crash state N.",
        ),
    ] = None,
    missing: Annotated[
        str | None,
        typer.Option(
            metavar="N,...|none",
            help="Of that state, the lower ops that are not on the disk, if it was shrunk.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="The seed with which the states were numbered.")
    ] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing image.")] = False,
    as_json: AsJson = False,
) -> int:
    """Make the disk as it should have been at a moment.

    The result is a sparse raw image.

    Example: trace checkout install.trace --at 1234 -o state.raw

    Trimmed bytes are zeroes, unless the trace was recorded with --trim old-or-zero: then they keep
    their earlier content.

    With --state, the result is the driver's own image file as a power cut leaves it, from the lower
    ops beside the trace (NAME.lower).

    Example: trace checkout failing/run.lower --state 47 -o state.qcow2
    """
    from tracer.errors import UsageError

    if state is not None:
        if at is not None:
            raise UsageError("--at and --state: give one of them")
        return _rebuild(trace, output, state, missing, seed, force=force, as_json=as_json)
    if missing is not None or seed:
        raise UsageError("--missing and --seed need --state")
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


def _rebuild(
    trace: Path, output: Path, state: int, missing: str | None, seed: int, *, force: bool,
    as_json: bool,
) -> int:  # fmt: skip
    from replay.below.kept import parse_missing, rebuild
    from tracer.text import many, printable, size

    made = rebuild(trace, state, output, seed=seed, missing=parse_missing(missing), force=force)
    if as_json:
        print(json.dumps(asdict(made), indent=2))
        return 0
    last = f", the last is {made.last.text()}" if made.last is not None else ""
    print(f"image:   {printable(made.image)} ({size(made.size)})")
    print(f"state:   {made.state}: {many(made.point, 'lower op')} issued{last}")
    if made.torn is not None:
        print(f"         of that only the first {many(made.torn, 'byte')} are on the disk")
    print(f"missing: {many(len(made.missing), 'lower op')}")
    for one in made.missing:
        print(f"         {one.text()}")
    return 0
