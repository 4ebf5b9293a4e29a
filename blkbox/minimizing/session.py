"""Minimise a trace: find the culprit, shrink what leads to it, write and check the result."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from blkbox.executors.pool import Processes
from blkbox.judging.judge import judge
from blkbox.judging.signs import Sign, sign_of
from blkbox.minimizing.power import Cut, verdict_of_cut
from blkbox.minimizing.result import Minimized, Other, in_lines
from blkbox.minimizing.trial import Probe, Replayed, Sought, run
from replay.minimize.lab import Candidate, Counters, Lab, Shown, Tester
from replay.minimize.odds import Odds
from replay.minimize.part import Index, Part
from replay.minimize.program import Program
from replay.minimize.shrink import NotAgain, Shrinker
from replay.minimize.writing import header_of, write_program
from replay.options import ReplayOptions
from replay.run import OutOfTime
from tracer.disk.private import PrivateFolder, Use
from tracer.errors import BlkboxError
from tracer.files import whole
from tracer.interrupts import Interrupted
from tracer.op import SECTOR
from tracer.progress import Say, silent
from tracer.ranges import RangeSet
from tracer.text import ops as in_ops
from tracer.trace.data import TraceWithData
from tracer.trace.file import Trace
from tracer.trace.payloads import payload_path
from tracer.verdict import BAD, SymptomKind, Verdict

FOCUS = 256
"""The most damaged ranges to look around: there, the ops that matter are likely to be."""

WRITE_EVERY = 5.0
"""Seconds between writes of the best so far while it is long: what a kill may lose is found again.
"""

SHORT = 1_000
"""Ops of a best that is written at once."""

SUSPECTS = 2
"""Ops that damage followed, of a search without a culprit, after which the trace may end."""

TRIES = 20
"""Runs of a prefix until it shows a fault that does not show in every run."""

HUNG = 5.0
"""Seconds after which an op counts as hung, if a hang is what is sought: each test of a candidate
that shows it takes so long."""

LEAST = 5.0
"""Seconds that these runs may take though the time is up."""

CHECKS = 10
"""Runs of the result that say how often it shows the fault."""


@dataclass(frozen=True, slots=True)
class MinimizeOptions:
    """What the user asked for, beyond how the trace is replayed."""

    out: Path
    """The trace to write."""
    seconds: float
    """How long to go on."""
    jobs: int
    """Runs side by side."""
    anew: bool = False
    """Whether to begin with the whole trace, whatever an earlier minimisation has left."""
    sure: float = 0.99
    """How sure the test of a candidate must be if the fault does not show in every run."""


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
        job = _Job(source, whole_trace, replaying, options, verdict, made, folder, deadline, say,
                   watch, cut)  # fmt: skip
        program = job.run()
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


class _Job:
    """A minimisation that runs."""

    def __init__(
        self,
        source: TraceWithData,
        whole_trace: TraceWithData,
        replaying: ReplayOptions,
        options: MinimizeOptions,
        verdict: Verdict,
        made: Minimized,
        folder: Path,
        deadline: float,
        say: Say,
        watch: Say,
        cut: Cut | None,
    ) -> None:
        self._source = source
        self._cut = cut
        self._whole = whole_trace
        self._replaying = replaying
        self._options = options
        self._verdict = verdict
        self._made = made
        self._folder = folder
        self._deadline = deadline
        self._say = say
        self._watch = watch
        self._sign = sign_of(verdict)
        self._counters = Counters()
        self._lab: Lab | None = None
        self._best: Candidate | None = None
        self._written: Candidate | None = None
        self._last_write = 0.0
        made.fault = str(self._sign)

    def run(self) -> Program | None:
        """Minimise, then note how often the result shows the fault."""
        made = self._made
        try:
            part, sought = self._base()
            jobs = self._options.jobs if self._replaying.driver.owns_image else 1
            with _tester(jobs, sought) as tester:
                self._lab = Lab(
                    self._watched(tester), jobs, self._deadline,
                    Odds(self._rate(), self._options.sure), self._counters,
                )  # fmt: skip
                try:
                    self._better(part)
                    shrinker = Shrinker(self._lab, self._better, self._say)
                    self._best = shrinker.shrink(part, self._focus())
                    made.complete, made.ended = True, ""
                except NotAgain:
                    made.ended = "the fault does not show again"
                except OutOfTime:
                    made.ended = "the time was up"
                self._weigh()
        except NotAgain:
            made.ended = "the fault does not show in a run that stops at the culprit, nor in all"
        except Interrupted as signal:
            made.interrupted, made.ended = signal.name, f"{signal.name} came"
        return self._finish()

    def _rate(self) -> float | None:
        """Return in what share of the runs the fault was seen; None if in each."""
        verdict = self._verdict
        if verdict.tries and verdict.shown < verdict.tries:
            return verdict.shown / verdict.tries
        return None if verdict.detected == 1 else 1 / verdict.detected

    def _base(self) -> tuple[Part, Sought]:
        """Return the shortest prefix that is known to lead to the fault, and what it shows. Raises
        NotAgain."""
        replaying = self._replaying
        index = Index.of(self._source.trace, replaying.upto, replaying.connections)
        ends = {len(index.numbers)}
        verdict = self._verdict
        for op in (verdict.culprit, verdict.first_bad_read, *verdict.suspects[:SUSPECTS]):
            if op is not None:
                ends.add(index.seqs.index(op.seq) + 1)
        # parts have their connections themselves
        options = replace(
            replaying, part=True, find=False, upto=None, runs=1, connections=None
        )  # fmt: skip
        if self._sign.what is SymptomKind.HANG:
            options = replace(options, timeout=min(options.timeout, HUNG))
        probe: Probe = Replayed(options)
        tries = 1 if self._rate() is None else TRIES
        if self._cut is not None:
            # most often the order of ops in flight does not matter: without any, runs are alike
            alone = replace(options, order=replace(options.order, depth=1))
            for chosen in (alone, options):
                probe = replace(self._cut, options=chosen)
                found = self._prefix(index, ends, probe, 2)
                if found is not None:
                    return found
            raise NotAgain
        found = self._prefix(index, ends, probe, tries)
        if found is None:
            raise NotAgain
        return found

    def _prefix(
        self, index: Index, ends: set[int], probe: Probe, tries: int
    ) -> tuple[Part, Sought] | None:
        """Return the shortest prefix of these that shows the fault, and what it shows."""
        for end in sorted(ends):
            part = Part(index, range(end))
            path = self._folder / "base.trace"
            part.write(path)
            for _ in range(tries):
                seen = probe.look(path)
                self._counters.runs += 1
                self._counters.ops += seen.ops
                found = next((one for one in seen.signs if self._is_wanted(one)), None)
                if found is not None:
                    _remove(path)
                    self._made.fault = str(found)
                    return part, Sought(found, probe)
            _remove(path)
        return None

    def _is_wanted(self, sign: Sign) -> bool:
        """Whether a sign is that of the verdict. The kinds of damage may differ: the verdict knows
        the culprit, and the tests do not."""
        return replace(self._sign, classes=frozenset()).shows(sign)

    def _focus(self) -> RangeSet:
        verdict = self._verdict
        found = RangeSet()
        for damage in (verdict.culprit_damage or verdict.damage)[:FOCUS]:
            found.add(damage.sector * SECTOR, (damage.sector + damage.sectors) * SECTOR)
        if verdict.culprit is not None:
            found.add(verdict.culprit.offset, verdict.culprit.offset + verdict.culprit.length)
        for suspect in verdict.suspects:
            found.add(suspect.offset, suspect.offset + suspect.length)
        return found

    # ---------------------------------------------------------------- the best so far

    def _better(self, candidate: Candidate) -> None:
        """Note a candidate that shows the fault. Write it at once if it is short."""
        self._best = candidate
        left = len(candidate) if isinstance(candidate, Part) else len(candidate.steps)
        now = time.monotonic()
        if left <= SHORT or now - self._last_write > WRITE_EVERY:
            self._write(candidate)
            self._last_write = time.monotonic()

    def _write(self, candidate: Candidate) -> None:
        """Write a candidate to the user's file, whole or not at all."""
        self._put(program_of(candidate), self._options.out, self._made.fault)
        self._written = candidate

    def _put(self, program: Program, out: Path, fault: str) -> None:
        header = header_of(
            self._source, program, trace=self._whole.trace.header.id,
            ops=self._made.ops_before, driver=self._verdict.driver, fault=fault,
        )  # fmt: skip
        with whole(payload_path(out), out) as folder:
            write_program(folder / out.name, program, self._source, header)

    def _weigh(self) -> None:
        """Run the best a few times more: how often does it show the fault?"""
        made, lab = self._made, self._lab
        if self._best is not None and lab is not None:
            self._write(self._best)
            lab.deadline = max(lab.deadline, time.monotonic() + LEAST)
            with suppress(OutOfTime):
                made.shown, made.shown_runs = lab.rate(self._best, CHECKS)
            if self._cut is not None:
                return
            with TraceWithData(self._options.out) as left:
                work = self._folder / "last"
                last = replace(
                    self._replaying, work=work, runs=TRIES, time=LEAST, upto=None, connections=None
                )  # fmt: skip
                made.small_verdict = judge(left, last, lambda text: None)

    def _finish(self) -> Program | None:
        """Write what was found, and note what it has cost."""
        made, counters, out = self._made, self._counters, self._options.out
        program = None
        if self._best is not None:
            program = program_of(self._best)
            if self._written is not self._best:
                self._write(self._best)
            made.small, made.ops, made.size = str(out), len(program.steps), program.size
            made.steps = in_lines(program)
        made.tests, made.runs, made.replayed = counters.tests, counters.runs, counters.ops
        made.passes = (counters.ops + made.found_with) / max(1, made.ops_before)
        others = self._lab.others.items() if self._lab is not None else ()
        for number, (words, other) in enumerate(others, 1):
            path = out.with_suffix(f".other-{number}.trace")
            self._put(other, path, words)
            made.others.append(Other(words, str(path), len(other.steps)))
        return program

    def _watched(self, tester: Callable[[Sequence[Path]], Sequence[Shown]]) -> Tester:
        """Return a function that writes and tests candidates. Before, it says how far it is."""

        def watched(candidates: Sequence[Candidate]) -> Sequence[Shown]:
            counters = self._counters
            best = self._best
            left = "" if best is None else f"{in_ops(_length(best))} left, "
            passes = (counters.ops + self._made.found_with) / max(1, self._made.ops_before)
            rest = max(0, int(self._deadline - time.monotonic()))
            self._watch(
                f"{left}{counters.tests:,} tests, {passes:.1f} passes, "
                f"{rest // 60}:{rest % 60:02} of the time left"
            )
            paths = [self._candidate(number, one) for number, one in enumerate(candidates)]
            try:
                return tester(paths)
            finally:
                for path in paths:
                    _remove(path)

        return watched

    def _candidate(self, number: int, candidate: Candidate) -> Path:
        """Write a candidate to our own folder."""
        path = self._folder / f"candidate-{number}.trace"
        if isinstance(candidate, Part):
            candidate.write(path)
        else:
            write_program(path, candidate, self._source)
        return path


def _remove(trace: Path) -> None:
    """Remove a candidate's trace, with its payload store or the link to one."""
    for path in (trace, payload_path(trace)):
        path.unlink(missing_ok=True)


def program_of(candidate: Candidate) -> Program:
    """Return a candidate as a program."""
    return candidate.program() if isinstance(candidate, Part) else candidate


def _length(candidate: Candidate) -> int:
    return len(candidate) if isinstance(candidate, Part) else len(candidate.steps)


@contextmanager
def _tester(jobs: int, sought: Sought) -> Iterator[Callable[[Sequence[Path]], Sequence[Shown]]]:
    """Yield a function that runs traces, so many at a time."""
    if jobs == 1:
        yield lambda paths: [run(path, sought) for path in paths]
        return
    with Processes[tuple[int, Shown]](jobs) as executor:

        def test(paths: Sequence[Path]) -> Sequence[Shown]:
            results: dict[int, Shown] = {}
            waiting = list(enumerate(paths))
            while waiting or not executor.idle:
                while waiting and executor.has_room:
                    number, path = waiting.pop(0)
                    executor.submit(_numbered, number, path, sought, died=partial(_died, number))
                results.update(executor.wait(1.0))
            return [results[number] for number in range(len(paths))]

        yield test


def _numbered(number: int, path: Path, sought: Sought) -> tuple[int, Shown]:
    return number, run(path, sought)


def _died(number: int, how: str) -> tuple[int, Shown]:
    """What a run comes to whose process ended before it was done: nothing is known of it."""
    return number, Shown(False, undecidable=f"the process that ran it ended: {how}")
