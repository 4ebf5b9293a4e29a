"""``trace replay``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blkbox.commands.options import (
    AllowErrno,
    CompareOption,
    Connections,
    Force,
    JsonTo,
    ReopenWith,
    ReplayConflicts,
    ReportTo,
    Shuffle,
    Start,
    Thorough,
    Timeout,
    Upto,
)
from tracer import progress
from tracer.mirror.scope import Compare

if TYPE_CHECKING:
    from tracer.verdict import Verdict


def replay(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="The trace to replay.")],
    driver: Annotated[
        str,
        typer.Option(
            help="The build to replay on: raw, qcow2, vmdk, ..., FORMAT@DIR, an NBD URI, a block "
            "device, or a .toml file."
        ),
    ],
    locate: Annotated[
        bool, typer.Option("--locate/--no-locate", help="Find the culprit, if anything is wrong.")
    ] = True,
    start: Start = "auto",
    depth: Annotated[
        str, typer.Option(help="Ops in flight: as recorded, or at most N.", metavar="recorded|N")
    ] = "recorded",
    conflicts: ReplayConflicts = None,
    connections: Connections = None,
    restart_every: Annotated[
        int | None,
        typer.Option(
            help="Stop, check and start the driver after every N ops [where the recording did].",
            metavar="N",
        ),
    ] = None,
    runs: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="How many clean runs make the driver clean, and how many confirm a culprit. Use "
            "more for a fault that shows only in some runs.",
        ),
    ] = 1,
    seed: Shuffle = 0,
    reopen_with: ReopenWith = None,
    upto: Upto = None,
    keep: Annotated[
        Path | None, typer.Option(help="Keep every run's images in this new folder.", metavar="DIR")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="The damage plot [TRACE.damage.png].", metavar="FILE.png|svg|pdf"),
    ] = None,
    no_plot: Annotated[bool, typer.Option("--no-plot", help="Draw no plot.")] = False,
    compare: CompareOption = Compare.TOUCHED,
    thorough: Thorough = False,
    time: Annotated[
        str | None,
        typer.Option(
            help="The most time that the search may take, like 90s or 10m [five times the first "
            "run, and at least 30s].",
            metavar="TIME",
        ),
    ] = None,
    allow_errno: AllowErrno = "",
    timeout: Timeout = 30.0,
    below: Annotated[
        bool,
        typer.Option(
            "--below",
            help="Also write what the driver does to its image in one more run, as TRACE.lower.",
        ),
    ] = False,
    force: Force = False,
    minimize: Annotated[
        bool,
        typer.Option(
            "--minimize",
            help="If the driver is bad, minimise the trace too, as trace minimize does: "
            "TRACE.min.trace and a script.",
        ),
    ] = False,
    report: ReportTo = None,
    as_json: JsonTo = None,
) -> int:
    """Run a trace on another build and name the culprit.

    The culprit is the first op after which the disk is wrong.

    Example: trace replay install.trace --driver qcow2@$HOME/qemu/build

    Exits with 0 (clean), 1 (the driver is bad), 125 (undecidable), so it fits "git bisect run".
    """
    import msgspec

    from analysis.story.words import story
    from blkbox import jobs, results
    from tracer.errors import Exit, UsageError
    from tracer.text import parse_duration
    from tracer.trace.payloads import payload_path
    from tracer.verdict import VerdictKind

    if depth != "recorded" and (not depth.isdigit() or int(depth) == 0):
        raise UsageError(f"--depth {depth!r}: write recorded, or a number above 0")
    picture = _plot_path(trace, plot, no_plot, force)
    inputs = (trace, payload_path(trace), *([picture] if picture is not None else []))
    places = results.results(as_json, report, force=force, others=inputs)
    verdict = jobs.replay(
        trace,
        driver=driver,
        locate=locate,
        start=start,
        depth=None if depth == "recorded" else int(depth),
        conflicts=conflicts,
        connections=connections,
        restart_every=restart_every,
        runs=runs,
        seed=seed,
        reopen_with=reopen_with,
        upto=upto,
        compare=compare,
        thorough=thorough,
        time=None if time is None else parse_duration(time),
        timeout=timeout,
        allow_errno=allow_errno,
        keep=keep,
        below=below,
        force=force,
        say=progress.step,
    )
    command = ["trace", "replay", str(trace)]
    for option, value, default in (
        ("--driver", driver, None), ("--start", start, "auto"), ("--depth", depth, "recorded"),
        ("--conflicts", conflicts, None), ("--connections", connections, None),
        ("--restart-every", restart_every, None),
        ("--runs", runs, 1), ("--seed", seed, 0), ("--reopen-with", reopen_with, None),
        ("--timeout", timeout, 30.0), ("--upto", upto, None),
        ("--compare", compare, Compare.TOUCHED), ("--time", time, None),
        ("--allow-errno", allow_errno, ""),
    ):  # fmt: skip
        if value != default:
            command += [option, str(value)]
    if thorough:
        command.append("--thorough")
    verdict = msgspec.structs.replace(verdict, command=command)
    if picture is not None and (verdict.damage or verdict.culprit):
        verdict = msgspec.structs.replace(verdict, plot=_draw(verdict, picture))
    left: list[str] = []
    if minimize and verdict.verdict.exit_code == Exit.BAD_DRIVER:
        verdict, page = _minimized(
            verdict, trace, driver=driver, start=start,
            depth=None if depth == "recorded" else int(depth), conflicts=conflicts,
            connections=connections, restart_every=restart_every, runs=runs, seed=seed,
            reopen_with=reopen_with, upto=upto, compare=compare, thorough=thorough,
            allow_errno=allow_errno, timeout=timeout, force=force,
        )  # fmt: skip
        left.append(page)
    results.deliver(
        verdict,
        places,
        lambda: "\n\n".join([story(verdict), *left]),
        lambda page: jobs.report(verdict, page, force=force),
    )
    if verdict.verdict is VerdictKind.UNDECIDABLE:
        progress.tell(f"trace: {verdict.reason}")
        if verdict.log.strip():
            progress.tell(verdict.log.rstrip())
    return verdict.verdict.exit_code


def _minimized(
    verdict: "Verdict", trace: Path, *, driver: str, **options: Any
) -> "tuple[Verdict, str]":
    """Minimise the trace, replayed with these options. Return the verdict with the name of what is
    left, and that as text."""
    import os

    import msgspec

    from blkbox.minimizing import api
    from blkbox.minimizing.result import page

    suffix = ".py" if Path(driver).suffix == ".toml" or "://" in driver else ".sh"
    with progress.line("minimizing") as watch:
        made = api.minimize(
            trace, driver=driver, scripts=[trace.with_name(f"{trace.stem}.min{suffix}")],
            jobs=len(os.sched_getaffinity(0)), verdict=verdict, say=progress.step, watch=watch,
            **options,
        )  # fmt: skip
    return msgspec.structs.replace(verdict, small=made.small), page(made)


def _plot_path(trace: Path, plot: Path | None, no_plot: bool, force: bool) -> Path | None:
    """Return the plot's file, or None for no plot. Called before the replay, so that a path that
    cannot be used is refused at once. Raises UsageError.

    The default is beside the trace, and the picture of the last replay there is replaced: to keep
    one needs a name of its own.
    """
    from tracer.errors import UsageError
    from tracer.files import PICTURES, check_new, is_ours

    if no_plot:
        if plot is not None:
            raise UsageError("--plot and --no-plot contradict each other: give one of them")
        return None
    if plot is not None:
        check_new(plot, force, PICTURES)
        return plot
    picture = trace.with_name(f"{trace.stem}.damage.png")
    if picture.exists() and not force and not (picture.is_file() and is_ours(picture)):
        raise UsageError(
            f"{picture} exists and is not blkbox's: name another file with --plot, or give "
            "--no-plot"
        )
    return picture


def _draw(verdict: "Verdict", path: Path) -> str | None:
    """Draw the damage; return the picture's path. If drawing fails, warn and return None: the
    verdict took long to find and must still be shown."""
    from blkbox.jobs import draw_damage
    from tracer import progress
    from tracer.errors import BlkboxError

    try:
        draw_damage(verdict, path, force=True)
    except BlkboxError as error:
        progress.tell(f"trace: no plot: {error}")
        return None
    return str(path)
