"""The options of a replay, from the arguments of the public API."""

from collections.abc import Callable
from os import fspath
from pathlib import Path

from replay.options import Order, ReplayOptions
from tracer.driver.driver import MAX_CONNECTIONS
from tracer.driver.spec import parse_driver
from tracer.errors import UsageError
from tracer.files import Pathlike
from tracer.mirror.scope import Compare, Scope
from tracer.op import OnConflict, Op
from tracer.text import choice, parse_errnos
from tracer.trace.data import TraceWithData
from tracer.trace.marks import count_upto
from tracer.verdict import StartKind


def replay_options(
    source: TraceWithData,
    work: Path,
    *,
    driver: Pathlike,
    locate: bool = True,
    start: str = "auto",
    depth: int | None = None,
    conflicts: str | None = None,
    connections: int | None = None,
    restart_every: int | None = None,
    runs: int = 1,
    seed: int = 0,
    reopen_with: Pathlike | None = None,
    upto: str | None = None,
    compare: str = "touched",
    thorough: bool = False,
    time: float | None = None,
    timeout: float = 30.0,
    allow_errno: str = "",
    observe: Callable[[Op], None] | None = None,
    keep: bool = False,
    force: bool = False,
) -> ReplayOptions:
    """Return the options of a replay. ``blkbox.replay`` describes the arguments.

    Raises UsageError if one of them is wrong, DriverError if a program is missing, TraceError if
    the trace cannot be read.
    """
    scope = Scope(choice(Compare, compare), thorough)
    build = parse_driver(fspath(driver))
    if scope.leaves_noise(source.trace.header.size):
        build = build.left_noisy()
    return ReplayOptions(
        driver=build,
        work=work,
        reader=parse_driver(fspath(reopen_with)) if reopen_with is not None else None,
        start=None if start == "auto" else choice(StartKind, start, "auto", name="--start "),
        order=Order(seed, depth),
        conflicts=None if conflicts is None else choice(OnConflict, conflicts),
        connections=connections,
        restart_every=restart_every,
        upto=count_upto(source.trace, upto) if upto is not None else None,
        runs=runs,
        find=locate,
        time=time,
        timeout=timeout,
        allowed=parse_errnos(allow_errno),
        scope=scope,
        observe=observe,
        keep=keep,
        force=force,
    )


def check_numbers(
    *, connections: int | None = None, restart_every: int | None = None, timeout: float = 1.0
) -> None:
    """Raise UsageError if a number is out of range. Called before the trace is opened."""
    if connections is not None and not 1 <= connections <= MAX_CONNECTIONS:
        raise UsageError(f"--connections: give a number from 1 to {MAX_CONNECTIONS}")
    if restart_every is not None and restart_every < 1:
        raise UsageError("--restart-every must be above 0")
    if timeout <= 0:
        raise UsageError("--timeout must be above 0")
