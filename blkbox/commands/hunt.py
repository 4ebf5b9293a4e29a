"""``trace hunt``."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Annotated

import typer

from blkbox.commands.options import AsJson
from tracer import progress

if TYPE_CHECKING:
    from blkbox.hunting.folder import State


def hunt(
    driver: Annotated[
        list[str],
        typer.Option(
            metavar="DRIVER",
            help="A driver under test: qcow2, vmdk, ..., FORMAT@DIR, or a .toml file. Give it "
            "several times for several drivers."
        ),
    ],
    time: Annotated[
        str, typer.Option(metavar="TIME", help="How long to hunt, like 90s, 10m or 8h.")
    ] = "10m",
    jobs: Annotated[
        int | None, typer.Option(metavar="N", help="Traces run at a time [one for each CPU].")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="The first seed.")] = 0,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="DIR",
            help="The folder for what is found. A hunt that is there goes on.",
        ),
    ] = Path("hunt"),
    ops: Annotated[int, typer.Option(metavar="N", help="The ops of each trace.")] = 1000,
    profile: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE.toml", help="What seeds draw from, as for trace generate."
        ),
    ] = "default",
    plain: Annotated[
        bool, typer.Option("--plain", help="Only the default options of each format.")
    ] = False,
    corpus: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="First run what an earlier hunt has found."),
    ] = None,
    as_json: AsJson = False,
) -> int:  # fmt: skip
    """Find bugs in a driver, without a guest.

    Traces are made from seeds and replayed, until the time is up. Each distinct fault is searched
    to its culprit, and kept with its trace, verdict and report.

    Example: trace hunt --driver qcow2 --driver qed --time 10m -o found

    Exits with 0 (nothing found), 1 (a driver is bad), 125 (no driver could be run).
    """
    from blkbox import jobs as api
    from blkbox.hunting.screen import Screen, page
    from tracer.text import parse_duration

    with Screen() as screen:
        state = api.hunt(
            driver, out, time=parse_duration(time), seed=seed, ops=ops, profile=profile,
            jobs=jobs if jobs is not None else len(os.sched_getaffinity(0)),
            plain=plain, corpus=corpus, say=screen.say, watch=screen.show,
        )  # fmt: skip
    print(json.dumps(asdict(state), indent=2) if as_json else page(state, out))
    return _exit_code(state)


def _exit_code(state: "State") -> int:
    from tracer.errors import Exit

    if state.faults:
        return Exit.DIFFERENT
    if state.interrupted is not None:
        return 128 + Signals[state.interrupted]
    ran = any(tally.seeds > tally.undecidable for tally in state.targets.values())
    if not ran:
        progress.tell("trace: no trace could be run")
    return Exit.CLEAN if ran else Exit.UNDECIDABLE
