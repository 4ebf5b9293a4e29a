"""``trace minimize``."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from signal import Signals
from typing import Annotated

import typer

from blkbox.commands.options import (
    AllowErrno,
    AsJson,
    Connections,
    Force,
    ReopenWith,
    ReplayConflicts,
    Shuffle,
    Start,
    Timeout,
    Upto,
)
from tracer import progress


def minimize(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="The trace to minimise.")],
    driver: Annotated[
        str,
        typer.Option(
            help="The build that shows the fault: qcow2, vmdk, ..., FORMAT@DIR, an NBD URI, or a "
            ".toml file."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="SMALL.trace",
            help="The trace to write [TRACE.min.trace]. If it is what was left of the same trace, "
            "go on from there.",
        ),
    ] = None,
    script: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.sh|FILE.py|iotest",
            help="Write a script too: for qemu-io, for nbdsh, or a test for QEMU's iotests. Give "
            "it several times for several scripts.",
        ),
    ] = None,
    time: Annotated[
        str, typer.Option(metavar="TIME", help="How long to go on, like 90s, 10m or 8h.")
    ] = "10m",
    jobs: Annotated[
        int | None, typer.Option(metavar="N", help="Runs side by side [one for each CPU].")
    ] = None,
    sure: Annotated[
        str,
        typer.Option(
            metavar="P%",
            help="How sure a test must be, if the fault does not show in every run.",
        ),
    ] = "99%",
    runs: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Runs of the whole trace until the fault shows."),
    ] = 1,
    start: Start = "auto",
    conflicts: ReplayConflicts = None,
    connections: Connections = None,
    seed: Shuffle = 0,
    reopen_with: ReopenWith = None,
    upto: Upto = None,
    power: Annotated[
        bool,
        typer.Option(
            "--power", help="Look for what only a power cut shows, as trace powercut does."
        ),
    ] = False,
    cache: Annotated[
        str | None,
        typer.Option(metavar="MODE", help="The cache mode of qemu-nbd, with --power."),
    ] = None,
    allow_errno: AllowErrno = "",
    timeout: Timeout = 30.0,
    force: Force = False,
    as_json: AsJson = False,
) -> int:  # fmt: skip
    """Reduce a failing trace to the fewest, smallest ops that still show the fault.

    The result is a trace, and on request a script that needs no blkbox, ready for a bug report.

    Example: trace minimize install.trace --driver qcow2@$HOME/qemu/build --script bug.sh

    Exits with 1 (the driver is bad: it was minimised), 0 (clean: nothing to minimise), 125
    (undecidable). Interrupted, the best so far is in the trace; the same command goes on.
    """
    from blkbox.minimizing import api
    from blkbox.minimizing.result import page
    from tracer.text import parse_duration, parse_share
    from tracer.verdict import VerdictKind

    with progress.line("minimizing") as watch:
        result = api.minimize(
            trace, driver=driver, out=out, scripts=script or [], time=parse_duration(time),
            jobs=jobs if jobs is not None else len(os.sched_getaffinity(0)),
            sure=parse_share(sure), runs=runs, start=start,
            conflicts=conflicts, connections=connections, seed=seed, reopen_with=reopen_with,
            upto=upto, power=power, cache=cache, allow_errno=allow_errno, timeout=timeout,
            force=force,
            say=progress.step, watch=watch,
        )  # fmt: skip
    if as_json:
        print(json.dumps(asdict(replace(result, small_verdict=None)), indent=2))
    else:
        print(page(result))
    if result.verdict == VerdictKind.UNDECIDABLE:
        progress.tell(f"trace: {result.reason}")
    if result.interrupted is not None:
        return 128 + Signals[result.interrupted]
    return VerdictKind(result.verdict).exit_code
