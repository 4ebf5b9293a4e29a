"""``blkbox.minimize``: the function of the public API."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from os import PathLike, fspath
from pathlib import Path

from blkbox.minimizing.result import Minimized
from blkbox.minimizing.script import check_scripts, write_scripts
from blkbox.minimizing.session import MinimizeOptions, earlier, minimize_trace
from replay.options import ReplayOptions
from tracer.disk.private import PrivateFolder, Use, sweep
from tracer.driver.spec import parse_driver
from tracer.errors import StorageError, UsageError
from tracer.files import check_new
from tracer.op import OnConflict
from tracer.text import parse_errnos
from tracer.trace.data import TraceWithData
from tracer.trace.file import SUFFIX
from tracer.trace.payloads import new_payload_path
from tracer.verdict import StartKind, Verdict

Pathlike = str | PathLike[str]


def _silent(_: str) -> None:
    pass


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
    conflicts: str | None = None,
    allow_errno: str = "",
    timeout: float = 30.0,
    verdict: Verdict | None = None,
    force: bool = False,
    say: Callable[[str], None] = _silent,
    watch: Callable[[str], None] = _silent,
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
    ``start``, ``conflicts``, ``allow_errno``, ``timeout``: as for ``replay``.
    ``verdict``: that of a replay of the trace on the driver; None: it is replayed first.
    ``force``: replace existing files, and the data of a server or a block device.
    ``say``, ``watch``: get a line for each step, and before each test how far it is.

    If the driver is clean or cannot be judged, the result says so and no trace is written. Raises
    UsageError, TraceError and StorageError as ``replay`` does.
    """
    path = Path(trace)
    target = Path(out) if out is not None else path.with_name(f"{path.stem}.min{SUFFIX}")
    options = MinimizeOptions(out=target, seconds=time, jobs=jobs, sure=sure)
    for name, value, right in (
        ("--jobs", jobs, jobs >= 1), ("--timeout", timeout, timeout > 0),
        ("--sure", sure, 0.5 < sure < 1),
    ):  # fmt: skip
        if not right:
            raise UsageError(f"{name} {value} is out of range")
    kinds = check_scripts([Path(script) for script in scripts], force=force)
    try:
        starting = None if start == "auto" else StartKind(start)
    except ValueError:
        raise UsageError(f"--start {start!r}: give one of auto, {', '.join(StartKind)}") from None
    try:
        with ExitStack() as stack:
            source = stack.enter_context(TraceWithData(path))
            if earlier(source, target) is None:
                for new in (target, new_payload_path(target)):
                    check_new(new, force)
            if target.absolute() == path.absolute():
                raise UsageError(f"{target} is the trace itself: name another file with --out")
            sweep()
            replaying = ReplayOptions(
                driver=parse_driver(fspath(driver)),
                work=stack.enter_context(PrivateFolder(Use.REPLAY)).path,
                start=starting,
                conflicts=None if conflicts is None else OnConflict(conflicts),
                runs=runs,
                timeout=timeout,
                allowed=parse_errnos(allow_errno),
                force=force,
            )
            made, program = minimize_trace(
                source, replaying, options, say, watch=watch, verdict=verdict
            )
            if program is not None and made.interrupted is None:
                write_scripts(made, program, replaying, kinds, say)
            return made
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"{error.filename}: {reason}" if error.filename else reason) from error
