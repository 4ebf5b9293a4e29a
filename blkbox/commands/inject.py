"""``trace inject``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from blkbox.commands.options import (
    AsJson,
    Cache,
    Depth,
    DriverOfAFile,
    Sample,
    Timeout,
    TraceToRun,
    Upto,
)


def inject(
    trace: TraceToRun,
    driver: DriverOfAFile,
    errors: Annotated[
        str, typer.Option(metavar="NAME,...", help="The errors that lower ops fail with.")
    ] = "EIO,ENOSPC",
    at: Annotated[
        str | None,
        typer.Option(
            metavar="N|all|'every N'", help="Which lower ops fail, one a run [a random sample]."
        ),
    ] = None,
    cache: Cache = None,
    through: Annotated[
        str, typer.Option(metavar="fuse|blkdebug|auto", help="What makes lower ops fail.")
    ] = "auto",
    time: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How long, like 90s or 10m [60s; with --at no limit]."),
    ] = None,
    seed: Sample = 0,
    depth: Depth = None,
    upto: Upto = None,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A new folder for images of failing runs.")
    ] = None,
    timeout: Timeout = 30.0,
    as_json: AsJson = False,
) -> int:
    """Make the host's disk fail, and see whether the driver survives it.

    The trace is run once for each lower op (an op of the driver on its image file) and each error.
    The guest's op may fail. Everything else must hold: the data, the check, a restart.

    Example: trace inject install.trace --driver qcow2 --errors EIO --at "every 10"

    Exits with 0 (it survives), 1 (it does not), 125 (undecidable).
    """
    from blkbox import power
    from replay.below.inject import words
    from tracer.text import parse_duration

    limit = parse_duration(time) if time is not None else None if at is not None else 60.0
    found = power.inject(
        trace, driver=driver, errors=errors, at=at, cache=cache, through=through, time=limit,
        seed=seed, depth=depth, upto=upto, timeout=timeout, keep=keep,
    )  # fmt: skip
    print(
        json.dumps({"schema": 1, **asdict(found)}, indent=2, default=str)
        if as_json
        else words(found)
    )
    return found.verdict.exit_code
