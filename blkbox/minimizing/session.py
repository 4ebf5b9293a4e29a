"""Minimise a trace: find what the whole of it shows, or go on where an earlier minimisation was."""

import shutil
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from blkbox.judging.judge import judge
from blkbox.minimizing.power import Cut, verdict_of_cut
from blkbox.minimizing.result import Minimized
from blkbox.minimizing.running import Asked, MinimizeOptions, Running
from replay.minimize.program import Program
from replay.options import ReplayOptions
from tracer.disk.private import PrivateFolder, Use
from tracer.errors import BlkboxError
from tracer.progress import Say, silent
from tracer.trace.data import TraceWithData
from tracer.trace.file import Trace
from tracer.trace.payloads import payload_path
from tracer.verdict import BAD, Verdict


def minimize_trace(
    source: TraceWithData,
    replaying: ReplayOptions,
    options: MinimizeOptions,
    say: Say,
    *,
    watch: Say = silent,
    verdict: Verdict | None = None,
    cut: Cut | None = None,
) -> tuple[Minimized, Program | None]:
    """Minimise a trace. Return what came of it, and the program that is left.

    ``verdict`` is that of a replay of the trace; None: it is replayed first. ``watch`` is shown how
    far it is, several times a second. With ``cut``, the fault is one that power cuts show. If
    ``options.out`` is what is left of this very trace, go on from there. A signal ends it early:
    the best so far is in ``options.out``.

    Raises TraceError, StorageError, UsageError.
    """
    started = time.monotonic()
    deadline = started + options.seconds
    with ExitStack() as stack:
        before = None if options.anew else earlier(source, options.out)
        if before is not None:
            say(f"{options.out}: going on from there")
            copied = stack.enter_context(PrivateFolder(Use.REPLAY)).path / before.name
            for path in (before, payload_path(before)):  # they are replaced before we are done
                shutil.copyfile(path, copied.with_name(path.name))
            whole_trace, source = source, stack.enter_context(TraceWithData(copied))
            verdict = None
        else:
            whole_trace = source
        if verdict is None:
            verdict = _found(source, replaying, options.seconds / 2, cut, say)
        made = Minimized(
            str(whole_trace.trace.path), verdict.driver, verdict.verdict.value, verdict.reason, ""
        )
        made.ops_before, made.found_with = _count(whole_trace.trace), verdict.replayed_ops
        if verdict.verdict not in BAD:
            made.seconds = time.monotonic() - started
            return made, None
        folder = stack.enter_context(PrivateFolder(Use.REPLAY)).path
        asked = Asked(source, whole_trace, replaying, options, verdict, cut, deadline)
        program = Running(asked, made, folder, say, watch).run()
        made.seconds = time.monotonic() - started
    return made, program


def _found(
    source: TraceWithData,
    replaying: ReplayOptions,
    seconds: float,
    cut: Cut | None,
    say: Say,
) -> Verdict:
    """Return what the whole trace shows, found in at most so many seconds."""
    if cut is not None:
        say("cutting the power in a run of the whole trace")
        found = replace(cut, states=None, seconds=seconds).cut(source.trace.path)
        return verdict_of_cut(found, source.trace.header.size)
    with PrivateFolder(Use.REPLAY) as work:
        finding = replace(replaying, work=work.path, find=True, time=seconds)
        return judge(source, finding, say)


def earlier(source: TraceWithData, out: Path) -> Path | None:
    """Return the trace to go on from, if there is one: what is left of this very trace."""
    if not out.exists():
        return None
    try:
        with Trace(out) as trace:
            return out if trace.header.minimized.get("trace") == source.trace.header.id else None
    except BlkboxError:
        return None


def _count(trace: Trace) -> int:
    return trace.end.ops if trace.end is not None else trace.count
