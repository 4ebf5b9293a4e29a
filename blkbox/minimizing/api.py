"""``blkbox.minimize``: the function of the public API."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from blkbox.judging.options import check_numbers, replay_options
from blkbox.minimizing.power import Cut
from blkbox.minimizing.result import Minimized
from blkbox.minimizing.running import MinimizeOptions
from blkbox.minimizing.script import check_scripts, write_scripts
from blkbox.minimizing.session import earlier, minimize_trace
from tracer.below.qemu import cuttable
from tracer.disk.private import PrivateFolder, Use, sweep
from tracer.errors import UsageError, only_our_errors
from tracer.files import Pathlike, check_new
from tracer.progress import Say, silent
from tracer.trace.data import TraceWithData
from tracer.trace.file import SUFFIX
from tracer.trace.payloads import new_payload_path
from tracer.verdict import Verdict


def minimize(
    trace: Pathlike,
    *,
    driver: Pathlike,
    out: Pathlike | None = None,
    scripts: Sequence[Pathlike] = (),
    time: float = 600.0,
    jobs: int = 1,
    sure: float = 0.99,
    runs: int = 1,
    start: str = "auto",
    depth: int | None = None,
    conflicts: str | None = None,
    connections: int | None = None,
    restart_every: int | None = None,
    seed: int = 0,
    reopen_with: Pathlike | None = None,
    upto: str | None = None,
    compare: str = "touched",
    thorough: bool = False,
    allow_errno: str = "",
    timeout: float = 30.0,
    power: bool = False,
    cache: str | None = None,
    verdict: Verdict | None = None,
    force: bool = False,
    say: Say = silent,
    watch: Say = silent,
) -> Minimized:
    """Reduce a failing trace to the fewest, smallest ops that still show the fault.

    ``driver``: the build that shows it, written as for ``replay``.
    ``out``: the trace to write; None: ``TRACE.min.trace``. If it is what was left of the same
    trace, go on from there.
    ``scripts``: scripts to write, which need no blkbox: ``.sh`` for qemu-io, ``.py`` for nbdsh,
    ``iotest`` for a test of QEMU's iotests.
    ``time``: the seconds that it may take, with the search for the culprit.
    ``jobs``: runs side by side.
    ``sure``: how sure a test must be, from 0 to 1, if the fault does not show in every run.
    ``runs``: how many runs of the whole trace to do at most until the fault shows.
    ``start`` to ``timeout``: as for ``replay``. What is left has its connections itself; it needs
    the same ``depth``, ``seed``, ``conflicts`` and ``restart_every``, if they were given.
    ``power``: look for what only a power cut shows, as ``powercut`` does, in place of what a replay
    shows. There is no script for that.
    ``cache``: the cache mode of qemu-nbd then, as for ``powercut``.
    ``verdict``: that of a replay of the trace on the driver; None: it is replayed first.
    ``force``: replace existing files, begin anew, and the data of a server or a block device.
    ``say``, ``watch``: get a line for each step, and before each test how far it is.

    If the driver is clean or cannot be judged, the result says so and no trace is written. Raises
    UsageError, TraceError and StorageError as ``replay`` does.
    """
    path = Path(trace)
    target = Path(out) if out is not None else path.with_name(f"{path.stem}.min{SUFFIX}")
    options = MinimizeOptions(out=target, seconds=time, jobs=jobs, anew=force, sure=sure)
    check_numbers(connections=connections, restart_every=restart_every, timeout=timeout)
    for name, value, right in (("--jobs", jobs, jobs >= 1), ("--sure", sure, 0.5 < sure < 1)):
        if not right:
            raise UsageError(f"{name} {value} is out of range")
    if power and scripts:
        raise UsageError("a power cut is no request: there is no script for it")
    kinds = check_scripts([Path(script) for script in scripts], force=force)
    with only_our_errors(), ExitStack() as stack:
        source = stack.enter_context(TraceWithData(path))
        if force or earlier(source, target) is None:
            for new in (target, new_payload_path(target)):
                check_new(new, force)
        if target.absolute() == path.absolute():
            raise UsageError(f"{target} is the trace itself: name another file with --out")
        sweep()
        work = stack.enter_context(PrivateFolder(Use.REPLAY)).path
        replaying = replay_options(
            source, work, driver=driver, start=start, depth=depth, conflicts=conflicts,
            connections=connections, restart_every=restart_every, runs=runs, seed=seed,
            reopen_with=reopen_with, upto=upto, compare=compare, thorough=thorough,
            timeout=timeout, allow_errno=allow_errno, force=force,
        )  # fmt: skip
        cut = None
        if power:
            replaying = replace(replaying, driver=cuttable(replaying.driver, cache))
            cut = Cut(replaying, cache)
        made, program = minimize_trace(
            source, replaying, options, say, watch=watch, verdict=verdict, cut=cut
        )
        if program is not None and made.interrupted is None:
            write_scripts(made, program, replaying, kinds, say)
        return made
