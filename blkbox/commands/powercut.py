"""``trace powercut``."""

import json
from dataclasses import asdict
from pathlib import Path
from signal import Signals
from typing import Annotated

import typer

from blkbox.commands.options import (
    AllowErrno,
    AsJson,
    Cache,
    Depth,
    DriverOfAFile,
    Sample,
    Timeout,
    TraceToRun,
    Upto,
)


def powercut(
    trace: TraceToRun,
    driver: DriverOfAFile,
    cache: Cache = None,
    through: Annotated[
        str,
        typer.Option(metavar="fuse|blklogwrites|auto", help="How the driver's own ops are seen."),
    ] = "auto",
    time: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long to judge, like 90s or 10m [60s].")
    ] = None,
    states: Annotated[
        str | None,
        typer.Option(metavar="N|all", help="How many crash states to judge [as the time allows]."),
    ] = None,
    seed: Sample = 0,
    depth: Depth = None,
    upto: Upto = None,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A new folder for the images of failing states."),
    ] = None,
    then_continue: Annotated[
        bool,
        typer.Option(
            "--then-continue",
            help="Also run the rest of the trace on images that have kept all promises.",
        ),
    ] = False,
    timeout: Timeout = 30.0,
    allow_errno: AllowErrno = "",
    jobs: Annotated[
        int,
        typer.Option(metavar="N", help="Processes that judge states side by side."),
    ] = 1,
    as_json: AsJson = False,
) -> int:
    """Cut the power at any moment, and see whether what was flushed survives.

    The trace is run once, with all that the driver writes to its image file logged. Then images are
    built of what the file may hold after a power cut. Each is opened and compared with what the
    guest was promised.

    Example: trace powercut install.trace --driver qcow2 --time 5m --keep failing

    Exits with 0 (no promise broken), 1 (the driver is bad), 125 (undecidable). With --states and
    without --time, there is no time limit.
    """
    from blkbox import power
    from replay.below.words import words
    from tracer.text import parse_duration

    limit = parse_duration(time) if time is not None else None if states is not None else 60.0
    found = power.powercut(
        trace, driver=driver, cache=cache, through=through, time=limit, seed=seed, depth=depth,
        upto=upto, states=int(states) if states is not None and states.isdigit() else states,
        timeout=timeout, allow_errno=allow_errno, keep=keep,
        then_continue=then_continue, jobs=jobs,
    )  # fmt: skip
    print(json.dumps({"schema": 1, **asdict(found)}, indent=2) if as_json else words(found))
    if found.interrupted is not None and not found.damaged:
        return 128 + Signals[found.interrupted]
    return found.verdict.exit_code
