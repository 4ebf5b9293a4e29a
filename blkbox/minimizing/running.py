"""A minimisation that runs: from the base to the result, with the best so far on the disk."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from blkbox.judging.judge import judge
from blkbox.judging.signs import Sign, sign_of
from blkbox.minimizing.power import Cut
from blkbox.minimizing.result import Minimized, Other, in_lines
from blkbox.minimizing.testing import remove, testing
from blkbox.minimizing.trial import Probe, Replayed, Sought
from replay.minimize.lab import Candidate, Counters, Lab, Shown, Tester
from replay.minimize.odds import Odds
from replay.minimize.part import Index, Part
from replay.minimize.program import Program
from replay.minimize.shrink import NotAgain, Shrinker
from replay.minimize.writing import header_of, write_program
from replay.options import ReplayOptions
from replay.run import OutOfTime
from tracer.files import whole
from tracer.interrupts import Interrupted
from tracer.op import SECTOR
from tracer.progress import Say
from tracer.ranges import RangeSet
from tracer.text import ops as in_ops
from tracer.trace.data import TraceWithData
from tracer.trace.payloads import payload_path
from tracer.verdict import SymptomKind, Verdict

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

CUTS = 2
"""Runs of a prefix until power cuts show the fault."""

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


@dataclass(frozen=True, slots=True)
class Asked:
    """What is minimised, and how."""

    source: TraceWithData
    """The trace to begin with: the whole, or what an earlier minimisation has left."""
    whole: TraceWithData
    """The trace that the user gave."""
    replaying: ReplayOptions
    options: MinimizeOptions
    verdict: Verdict
    """What ``source`` shows."""
    cut: Cut | None
    """How the power is cut, if the fault is one that power cuts show."""
    deadline: float
    """When to stop, by the monotonic clock."""


class Running:
    """A minimisation that runs. It notes in ``made`` what comes of it."""

    def __init__(self, asked: Asked, made: Minimized, folder: Path, say: Say, watch: Say) -> None:
        self._asked = asked
        self._made = made
        self._folder = folder
        self._say = say
        self._watch = watch
        self._sign = sign_of(asked.verdict)
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
            jobs = self._asked.options.jobs if self._asked.replaying.driver.owns_image else 1
            with testing(self._asked.source, self._folder, jobs, sought) as tester:
                self._lab = Lab(
                    self._watched(tester), jobs, self._asked.deadline,
                    Odds(self._rate(), self._asked.options.sure), self._counters,
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
        verdict = self._asked.verdict
        if verdict.tries and verdict.shown < verdict.tries:
            return verdict.shown / verdict.tries
        return None if verdict.detected == 1 else 1 / verdict.detected

    def _base(self) -> tuple[Part, Sought]:
        """Return the shortest prefix that is known to lead to the fault, and what it shows. Raises
        NotAgain."""
        replaying = self._asked.replaying
        index = Index.of(self._asked.source.trace, replaying.upto, replaying.connections)
        ends = {len(index.numbers)}
        verdict = self._asked.verdict
        for op in (verdict.culprit, verdict.first_bad_read, *verdict.suspects[:SUSPECTS]):
            if op is not None:
                ends.add(index.seqs.index(op.seq) + 1)
        # parts have their connections themselves
        options = replace(
            replaying, part=True, find=False, upto=None, runs=1, connections=None
        )  # fmt: skip
        if self._sign.what is SymptomKind.HANG:
            options = replace(options, timeout=min(options.timeout, HUNG))
        for probe, tries in self._probes(options):
            found = self._prefix(index, ends, probe, tries)
            if found is not None:
                return found
        raise NotAgain

    def _probes(self, options: ReplayOptions) -> Iterator[tuple[Probe, int]]:
        """Yield the ways to look at candidates, the best first, each with how often a prefix is
        looked at."""
        cut = self._asked.cut
        if cut is None:
            yield Replayed(options), 1 if self._rate() is None else TRIES
            return
        # most often the order of ops in flight does not matter: without any, runs are alike
        alone = replace(options, order=replace(options.order, depth=1))
        for chosen in (alone, options):
            yield replace(cut, options=chosen), CUTS

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
                    remove(path)
                    self._made.fault = str(found)
                    return part, Sought(found, probe)
            remove(path)
        return None

    def _is_wanted(self, sign: Sign) -> bool:
        """Whether a sign is that of the verdict. The kinds of damage may differ: the verdict knows
        the culprit, and the tests do not."""
        return replace(self._sign, classes=frozenset()).shows(sign)

    def _focus(self) -> RangeSet:
        verdict = self._asked.verdict
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
        now = time.monotonic()
        if len(candidate) <= SHORT or now - self._last_write > WRITE_EVERY:
            self._write(candidate)
            self._last_write = time.monotonic()

    def _write(self, candidate: Candidate) -> None:
        """Write a candidate to the user's file, whole or not at all."""
        self._put(candidate.program(), self._asked.options.out, self._made.fault)
        self._written = candidate

    def _put(self, program: Program, out: Path, fault: str) -> None:
        header = header_of(
            self._asked.source, program, trace=self._asked.whole.trace.header.id,
            ops=self._made.ops_before, driver=self._asked.verdict.driver, fault=fault,
        )  # fmt: skip
        with whole(payload_path(out), out) as folder:
            write_program(folder / out.name, program, self._asked.source, header)

    def _weigh(self) -> None:
        """Run the best a few times more: how often does it show the fault?"""
        made, lab = self._made, self._lab
        if self._best is not None and lab is not None:
            self._write(self._best)
            lab.deadline = max(lab.deadline, time.monotonic() + LEAST)
            with suppress(OutOfTime):
                made.shown, made.shown_runs = lab.rate(self._best, CHECKS)
            if self._asked.cut is not None:
                return
            with TraceWithData(self._asked.options.out) as left:
                work = self._folder / "last"
                last = replace(
                    self._asked.replaying, work=work, runs=TRIES, time=LEAST, upto=None,
                    connections=None,
                )  # fmt: skip
                made.small_verdict = judge(left, last, lambda text: None)

    def _finish(self) -> Program | None:
        """Write what was found, and note what it has cost."""
        made, counters, out = self._made, self._counters, self._asked.options.out
        program = None
        if self._best is not None:
            program = self._best.program()
            if self._written is not self._best:
                self._write(self._best)
            made.small, made.ops, made.size = str(out), len(program.steps), program.size
            made.steps = in_lines(program)
        made.tests, made.runs, made.replayed = counters.tests, counters.runs, counters.ops
        made.passes = self._passes()
        others = self._lab.others.items() if self._lab is not None else ()
        for number, (words, other) in enumerate(others, 1):
            path = out.with_suffix(f".other-{number}.trace")
            self._put(other, path, words)
            made.others.append(Other(words, str(path), len(other.steps)))
        return program

    def _watched(self, tester: Tester) -> Tester:
        """Return the tester; before each test, it says how far it is."""

        def watched(candidates: Sequence[Candidate]) -> Sequence[Shown]:
            best, counters = self._best, self._counters
            left = "" if best is None else f"{in_ops(len(best))} left, "
            rest = max(0, int(self._asked.deadline - time.monotonic()))
            self._watch(
                f"{left}{counters.tests:,} tests, {self._passes():.1f} passes, "
                f"{rest // 60}:{rest % 60:02} of the time left"
            )
            return tester(candidates)

        return watched

    def _passes(self) -> float:
        """Return all ops that were sent so far, as passes over the trace."""
        made = self._made
        return (self._counters.ops + made.found_with) / max(1, made.ops_before)
