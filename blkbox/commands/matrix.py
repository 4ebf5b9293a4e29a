"""``trace matrix``."""

import json
import os
from pathlib import Path
from signal import Signals
from typing import Annotated

import typer

from blkbox.commands.options import AllowErrno, AsJson, CompareOption, Thorough, Timeout
from tracer.mirror.scope import Compare


def matrix(
    driver: Annotated[
        list[str],
        typer.Option(
            metavar="DRIVER",
            help="A build under test, as for trace replay. Give it once for each build. With a URL "
            "in place of a path, each worker fetches the build's folder."
        ),
    ],
    traces: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TRACES...",
            help="Traces: files, folders, globs, .toml manifests, URLs.",
        ),
    ] = None,
    generate: Annotated[
        str | None,
        typer.Option(metavar="SEEDS", help="Also generate a trace from each seed, like 1-200."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", help="Cells run at a time [one for each CPU].")
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Run the cells on the workers of a Dask scheduler."),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="DIR",
            help="The folder for the results. Finished cells that are there are not run again.",
        ),
    ] = Path("matrix"),
    ops: Annotated[
        int, typer.Option(metavar="N", help="The ops of each generated trace.")
    ] = 2000,
    size: Annotated[
        str, typer.Option(metavar="SIZE", help="The disk size of generated traces.")
    ] = "64M",
    profile: Annotated[
        str,
        typer.Option(metavar="NAME|FILE.toml", help="What seeds draw from, as for trace generate."),
    ] = "default",
    no_locate: Annotated[
        bool, typer.Option("--no-locate", help="Do not search for culprits: verdicts only.")
    ] = False,
    runs: Annotated[
        int, typer.Option(metavar="N", help="How many clean runs make a build clean.")
    ] = 1,
    restart_every: Annotated[
        int | None, typer.Option(metavar="N", help="Restart the driver after every N ops.")
    ] = None,
    connections: Annotated[
        int | None, typer.Option(metavar="N", help="Spread the ops over N connections.")
    ] = None,
    compare: CompareOption = Compare.TOUCHED,
    thorough: Thorough = False,
    time: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The most time that a search may take, like 90s."),
    ] = None,
    timeout: Timeout = 30.0,
    limit: Annotated[
        str, typer.Option(metavar="TIME", help="The time limit for a cell, like 30m.")
    ] = "1h",
    allow_errno: AllowErrno = "",
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the data of a server or a block device.")
    ] = False,
    as_json: AsJson = False,
) -> int:  # fmt: skip
    """Run every trace on every build.

    Shows a table, and leaves a page with a report for each bad cell, a picture and JUnit XML in the
    folder. The same command goes on where it was, and runs again only what has changed: traces,
    builds (their programs and libraries) or options.

    Example: trace matrix shelf/ --driver qcow2 --driver qcow2@$HOME/qemu/build -o nightly

    Exits with 0 (all cells are clean), 1 (a build is bad), 125 (none is bad, and not all could be
    judged).
    """
    import msgspec

    from blkbox.matrices.model import MatrixOptions
    from blkbox.matrices.running import run_matrix
    from blkbox.matrices.screen import Screen, page
    from blkbox.matrices.sources import parse_seeds
    from tracer.errors import UsageError
    from tracer.text import parse_duration, parse_errnos, parse_size

    count = jobs if jobs is not None else len(os.sched_getaffinity(0))
    for name, number in (
        ("--jobs", count), ("--ops", ops), ("--runs", runs),
        ("--restart-every", restart_every or 1), ("--connections", connections or 1),
    ):  # fmt: skip
        if number < 1:
            raise UsageError(f"{name} {number}: give a number from 1 on")
    parse_errnos(allow_errno)
    given = {
        "locate": (not no_locate, True), "runs": (runs, 1), "restart_every": (restart_every, None),
        "connections": (connections, None), "compare": (str(compare), str(Compare.TOUCHED)),
        "thorough": (thorough, False), "timeout": (timeout, 30.0), "allow_errno": (allow_errno, ""),
        "time": (None if time is None else parse_duration(time), None),
    }  # fmt: skip
    options = MatrixOptions(
        traces=traces or [], drivers=driver, folder=out, jobs=count, dask=dask,
        seeds=None if generate is None else parse_seeds(generate), ops=ops, size=parse_size(size),
        profile=profile, limit=parse_duration(limit), force=force,
        replay={name: value for name, (value, usual) in given.items() if value != usual},
    )  # fmt: skip
    with Screen() as screen:
        found = run_matrix(options, screen.say, screen.show)
    print(json.dumps(msgspec.to_builtins(found), indent=2) if as_json else page(found, out))
    if found.interrupted is not None:
        return 128 + Signals[found.interrupted]
    return found.exit_code
