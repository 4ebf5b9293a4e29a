"""The functions of the public API that look below the driver."""

from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.errors import StorageError, UsageError, only_our_errors
from tracer.files import Pathlike
from tracer.text import choice

if TYPE_CHECKING:
    from blkbox.executors.pool import Job
    from replay.below.found import PowerCut
    from replay.below.inject import Injected
    from replay.below.powercut import CutOptions
    from replay.below.recorded import LowerRun


def powercut(
    trace: Pathlike,
    *,
    driver: Pathlike,
    cache: str | None = None,
    through: str = "auto",
    time: float | None = 60.0,
    states: int | str | None = None,
    seed: int = 0,
    depth: int | None = None,
    upto: str | None = None,
    timeout: float = 30.0,
    allow_errno: str = "",
    keep: Pathlike | None = None,
    then_continue: bool = False,
    jobs: int = 1,
) -> "PowerCut":
    """Run a trace once on a driver, cut the power at many moments of that run, and say whether
    what was flushed survives.

    ``driver``: the build under test: ``raw``, ``qcow2``, ..., ``FORMAT@DIR``, or a ``.toml`` file
    whose ``serve`` is qemu-nbd.
    ``cache``: the cache mode of qemu-nbd: ``writeback`` (its default), ``writethrough``, ``none``,
    ``directsync`` or ``unsafe``.
    ``through``: how the driver's own ops are seen: by a ``fuse`` file, by QEMU's ``blklogwrites``,
    or ``auto``: by a FUSE file if that can be used here (docs/powercut.md has the difference).
    ``time``: the seconds that crash states are judged for; None: no limit.
    ``states``: how many states to judge at most, or ``"all"``, which needs no ``time``; None: as
    many as the time allows.
    ``seed``: selects the sample, and the random subsets of lower ops.
    ``depth``, ``upto``, ``timeout``, ``allow_errno``: how the trace is run, as for ``replay``.
    ``then_continue``: half of the time, run the rest of the trace on an image that has kept all
    promises, for damage that shows later.
    ``jobs``: processes that judge states side by side; each takes its share of ``states``.
    ``keep``: a new folder that gets failing states as images, and what all states are built from.

    Raises UsageError if an argument is wrong or nothing can be put below the driver, Undecidable if
    the driver cannot be run, TraceError if the trace or a payload cannot be read, StorageError if
    our own disk fails or is full.
    """
    from replay.below.powercut import CutOptions
    from replay.below.powercut import powercut as cut
    from replay.below.recorded import Through, run_logged
    from replay.options import Order, ReplayOptions
    from tracer.below.qemu import cuttable
    from tracer.disk.private import PrivateFolder, Use, sweep
    from tracer.driver.spec import parse_driver
    from tracer.text import parse_errnos
    from tracer.trace.data import TraceWithData
    from tracer.trace.marks import count_upto

    if isinstance(states, str) and states != "all":
        raise UsageError(f"--states {states}: give a number, or all")
    if isinstance(states, int) and states < 1:
        raise UsageError("--states must be above 0")
    if jobs < 1:
        raise UsageError("--jobs must be above 0")
    if keep is not None and Path(keep).exists():
        raise UsageError(f"{keep} exists: --keep wants a new folder")
    build = cuttable(parse_driver(fspath(driver)), cache)
    with (
        only_our_errors(),
        TraceWithData(Path(trace)) as source,
        PrivateFolder(Use.REPLAY) as folder,
    ):
        sweep()
        options = ReplayOptions(
            driver=build, work=folder.path, order=Order(0, depth), timeout=timeout,
            upto=count_upto(source.trace, upto) if upto is not None else None,
            allowed=parse_errnos(allow_errno),
        )  # fmt: skip
        seen = None if through == "auto" else choice(Through, through, "auto", name="--through ")
        run = run_logged(source, options, cache, seen)
        if keep is not None:
            Path(keep).mkdir()
        cutting = CutOptions(
            seed=seed, seconds=time, states=states if isinstance(states, int) else None,
            all_=states == "all", keep=None if keep is None else Path(keep),
            go_on=options if then_continue else None,
        )  # fmt: skip
        if jobs > 1:
            return _in_shares(Path(trace), run, cutting, folder.path, jobs)
        return cut(source, run, cutting, folder.path, source.trace.header.size)


def _in_shares(
    trace: Path, run: "LowerRun", cutting: "CutOptions", work: Path, jobs: int
) -> "PowerCut":
    """Judge the states of a run in so many processes."""
    from blkbox.executors.pool import Processes, run_all
    from replay.below.sharing import judge_share, merged, shares

    def died(how: str) -> "PowerCut":
        raise StorageError(f"a process that judged crash states ended: {how}")

    tasks: list[Job[PowerCut]] = [
        (judge_share, (trace, run, share, work / f"share-{number}"), died)
        for number, share in enumerate(shares(cutting, jobs))
    ]
    with Processes["PowerCut"](jobs) as executor:
        return merged(list(run_all(executor, tasks)))


def inject(
    trace: Pathlike,
    *,
    driver: Pathlike,
    errors: str = "EIO,ENOSPC",
    at: int | str | None = None,
    cache: str | None = None,
    through: str = "auto",
    time: float | None = 60.0,
    seed: int = 0,
    depth: int | None = None,
    upto: str | None = None,
    timeout: float = 30.0,
    keep: Pathlike | None = None,
) -> "Injected":
    """Run a trace again and again on a driver, each time with one failing op on its image file, and
    say what it does wrong then.

    ``errors``: the errors that lower ops fail with. ENOSPC lasts until something is freed.
    ``at``: the lower op that fails: a number, ``"all"`` for all in turn, ``"every N"`` for every
    N-th; None: a random sample of all, as the time allows.
    ``through``: what makes lower ops fail: a ``fuse`` file, QEMU's ``blkdebug``, or ``auto``: a
    FUSE file if that can be used here (docs/powercut.md has the difference).
    ``time``: the seconds that this may take; None: no limit.
    ``seed``: selects the sample.
    ``driver``, ``cache``, ``depth``, ``upto``, ``timeout``: as for ``powercut``.
    ``keep``: a new folder that gets the images of failing runs.

    Raises as ``powercut``.
    """
    from dataclasses import replace

    from replay.below.attempt import Through, best
    from replay.below.inject import InjectOptions, parse_at
    from replay.below.inject import inject as fail
    from replay.options import Order, ReplayOptions
    from tracer.below.qemu import on_a_file
    from tracer.disk.private import PrivateFolder, Use, sweep
    from tracer.driver.spec import parse_driver
    from tracer.text import parse_errnos
    from tracer.trace.data import TraceWithData
    from tracer.trace.marks import count_upto

    if keep is not None and Path(keep).exists():
        raise UsageError(f"{keep} exists: --keep wants a new folder")
    build = on_a_file(parse_driver(fspath(driver)), cache)
    wanted = InjectOptions(
        errors=tuple(sorted(parse_errnos(errors))), seconds=time, seed=seed, cache=cache,
        through=(best(build) if through == "auto"
                 else choice(Through, through, "auto", name="--through ")),
    )  # fmt: skip
    if not wanted.errors:
        raise UsageError("--errors names no error")
    wanted = parse_at(wanted, at)
    with (
        only_our_errors(),
        TraceWithData(Path(trace)) as source,
        PrivateFolder(Use.REPLAY) as folder,
    ):
        sweep()
        if keep is not None:
            Path(keep).mkdir()
            wanted = replace(wanted, keep=Path(keep))
        options = ReplayOptions(
            driver=build, work=folder.path, order=Order(0, depth), timeout=timeout,
            upto=count_upto(source.trace, upto) if upto is not None else None,
        )  # fmt: skip
        return fail(source, options, wanted)
