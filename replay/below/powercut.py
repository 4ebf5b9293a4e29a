"""Cut the power at many moments of a run, and judge what is left.

The trace is run once, with the lower ops logged. Then crash states are sampled, built as images,
opened as the format prescribes, and compared with what the guest was promised.
"""

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from replay.below.continuing import goes_wrong
from replay.below.found import RUN, CheckFound, Fault, Later, PowerCut
from replay.below.judge import Judge, Judged
from replay.below.kept import write_run
from replay.below.promises import NEVER, Promises
from replay.below.recorded import LowerRun
from replay.below.reporting import Reporter, Seen
from replay.below.shrink import shrunk
from replay.below.states.image import CrashImage, lower_ops
from replay.below.states.opened import CannotOpen, Opener, opener
from replay.below.states.points import Crash, Points
from replay.below.states.repair import Check, is_dirty, must_be_right, repaired, repaired_path
from replay.below.states.sample import batches
from replay.options import ReplayOptions
from tracer.below.log_writes import LogReader
from tracer.below.qemu import THROUGH, cache_of
from tracer.disk import sparse
from tracer.disk.loop import Loop
from tracer.interrupts import Interrupted
from tracer.mirror.difference import describe
from tracer.progress import bar, detail, step
from tracer.text import many
from tracer.trace.data import TraceWithData
from tracer.verdict import VerdictKind

ENOUGH = 50
"""Failing states after which no more are looked for: they have the same few causes."""

MAX_FAULTS = 10
"""Failing states that are shrunk and reported: the first of each kind."""

CONTINUING = 0.5
"""The share of the time in which the rest of the trace is run, if it is."""

MAX_KEPT = 20
"""Failing images that are kept."""


@dataclass(frozen=True, slots=True)
class CutOptions:
    """What the user asked for. ``states`` is how many to judge, None for as many as ``seconds``
    allow (None: no limit); ``all_`` judges all. ``keep`` is a folder for failing images."""

    seed: int = 0
    seconds: float | None = 60.0
    states: int | None = None
    all_: bool = False
    keep: Path | None = None
    share: tuple[int, int] = (0, 1)
    """Which of how many shares of the states to judge, from 0 on."""
    enough: int = ENOUGH
    """Failing states after which no more are looked for."""
    shrinks: bool = True
    """Whether failing states are shrunk."""
    go_on: ReplayOptions | None = None
    """How the rest of the trace is run after some states; None: it is not."""


def powercut(
    source: TraceWithData, run: LowerRun, options: CutOptions, work: Path, size: int
) -> PowerCut:
    """Judge the crash states of a run. ``work`` is a folder for images, ``size`` the disk's, in
    bytes. Raises TraceError, StorageError, DriverError if nothing opens images, and OSError."""
    cache = cache_of(run.served)
    through = cache in THROUGH or not run.flushes
    promises = Promises(source, run.events, through=through, start_ops=run.start_ops)
    lower = lower_ops(run.events)
    points = Points(lower, options.seed)
    found = PowerCut(
        VerdictKind.CLEAN, str(source.trace.path), run.driver.name, cache,
        run.through, None,
        ops=run.outcome.replayed, lower=dict(Counter(op.kind.label for op in lower)),
        points=points.count, states=points.states, seed=options.seed,
    )  # fmt: skip
    reason = _not_judged(run)
    if reason is not None:
        return replace(found, verdict=VerdictKind.FAILED, reason=reason)
    if options.keep is not None and not options.share[0]:
        write_run(source, run, options.keep / RUN)
    with ExitStack() as stack:
        loop = stack.enter_context(Loop())
        opens = opener(run.driver, loop)
        stack.callback(opens.close)
        cutting = _Cutting(source, run, promises, points, opens, loop, options, work, size)
        return cutting.go(found)


def _not_judged(run: LowerRun) -> str | None:
    """Return why a run says nothing of power cuts, or None."""
    outcome = run.outcome
    if outcome.faults:
        return f"without a power cut: {describe(outcome.faults[0][1])}"
    if outcome.lost is not None:
        return f"without a power cut: the driver went away with {outcome.lost[1].describe()}"
    if outcome.hung is not None:
        return f"without a power cut: {outcome.hung[1].describe()} was not answered"
    if outcome.check is not None:
        return f"without a power cut: at a restart, the check fails: {outcome.check}"
    if outcome.ended_at is not None:
        return f"without a power cut: at a restart: {run.stop}"
    return f"without a power cut: stopping: {run.stop}" if run.stop is not None else None


class _Cutting:
    """Judges states, and counts."""

    def __init__(
        self, source: TraceWithData, run: LowerRun, promises: Promises, points: Points,
        opens: Opener, loop: Loop, options: CutOptions, work: Path, size: int,
    ) -> None:  # fmt: skip
        self.source = source
        self.run = run
        self.promises = promises
        self.points = points
        self.opens = opens
        self.loop = loop
        self.options = options
        self.work = work
        self.size = size
        self.reporter = Reporter(run, promises, points)
        self.versions = sorted(
            change.durable for change in promises.changes if change.durable != NEVER
        )
        self.known: dict[tuple[bytes, int], int] = {}
        """By image and by how much is durable: the earliest point at which it was judged."""
        self.tried = self.judged = self.shrinking = self.damaged = self.repaired = 0
        self.broken = 0
        self.checked = 0
        self.checks: dict[str, CheckFound] = {}
        self.faults: dict[object, Fault] = {}
        self.kept = self.continued = 0
        self.continuing = 0.0
        """Seconds that running the rest of the trace took."""
        self.started = time.monotonic()
        self.later: list[Later] = []
        self.image: CrashImage
        self.judge: Judge

    def go(self, found: PowerCut) -> PowerCut:
        """Judge states until all are judged, the time is up, or enough have failed."""
        started = time.monotonic()
        over, interrupted = False, None
        wanted = min(self.options.states or found.states, found.states)
        try:
            with bar("cutting the power", wanted, "states") as progress:
                over = self._judge_all(started, progress)
        except Interrupted as signal:
            over, interrupted = True, signal.name
        result = self._result(found, time.monotonic() - started, complete=not over)
        return replace(result, interrupted=interrupted)

    def _judge_all(self, started: float, progress: Callable[[int], None]) -> bool:
        """Judge states. Return whether that ended before all were judged."""
        run = self.run
        for batch in self._batches():
            detail(f"judging a batch of {many(len(batch), 'state')}")
            with (
                LogReader(run.log) as log,
                CrashImage(
                    run.start, log.read, self.points, self.work, run.driver.suffix
                ) as self.image,
                Judge(self.promises, self.size, self.work, self.loop) as self.judge,
            ):
                for number in batch:
                    if self._is_over(started):
                        return True
                    self._try(number)
                    progress(1)
        return False

    def _batches(self) -> Iterator[list[int]]:
        """Yield the numbers of the states of our share."""
        options, (ours, of) = self.options, self.options.share
        found = batches(self.points, self.promises.flushed, options.seed, all_=options.all_)
        for number, batch in enumerate(found):
            if options.all_:  # one batch
                size = -(-len(batch) // of)
                yield batch[ours * size : (ours + 1) * size]
            elif number % of == ours:
                yield batch

    def _is_over(self, started: float) -> bool:
        options = self.options
        return (
            (options.seconds is not None and time.monotonic() - started >= options.seconds)
            or (options.states is not None and self.judged >= options.states)
            or self.damaged + self.broken >= options.enough
        )

    def _try(self, number: int) -> None:
        """Judge a state, unless an image like it was judged already."""
        crash = self.points.state(number)
        key = self.image.build(crash), bisect_right(self.versions, crash.point)
        self.tried += 1
        if self.known.get(key, NEVER) <= crash.point:
            return
        self.known[key] = crash.point
        self.judged += 1
        seen = self._checked(crash)
        self.repaired += seen.repaired
        self.checked += seen.checked
        if seen.says is not None:
            old = self.checks.get(seen.says, CheckFound(seen.says, 0, number))
            self.checks[seen.says] = replace(
                old, states=old.states + 1, first=min(old.first, number)
            )
        if seen.fails:
            self.damaged += seen.damaged
            self.broken += not seen.damaged
            self._note(number, crash, seen)
        elif self.options.go_on is not None:
            self._go_on(number, crash, self.options.go_on)

    def _go_on(self, number: int, crash: Crash, options: ReplayOptions) -> None:
        """Run the rest of the trace after a state, unless that has taken its share of the time."""
        now = time.monotonic()
        if self.continued and self.continuing > (now - self.started) * CONTINUING:
            return
        self.continued += 1
        first = self.run.start_ops + self.promises.sent(crash.point)
        reason = goes_wrong(self.source, self.run, options, self.image.path, first)
        self.continuing += time.monotonic() - now
        if reason is not None:
            self.damaged += 1
            self.later.append(Later(number, first, reason, self._keep(number)))

    def _checked(self, crash: Crash) -> Seen:
        """Judge the image, which is built, and run the check command on it meanwhile. What is
        repaired first is checked after that."""
        driver, image = self.run.driver, self.image.path
        check = None if is_dirty(image) else Check(driver, image)
        try:
            seen = self._look(crash)
            if seen.repaired:
                if check is not None:
                    check.close()
                check = Check(driver, repaired_path(driver, image))
            says = check.found() if check is not None else None
        finally:
            if check is not None:
                check.close()
        ran = check is not None and check.runs
        unexpected = says if says is not None and must_be_right(image, says) else None
        return replace(seen, checked=ran, says=says, check=unexpected)

    def _look(self, crash: Crash) -> Seen:
        """Open the image, which is built, and judge what it holds."""
        image = self.image.path
        fixed = repaired(self.run.driver, image) if is_dirty(image) else None
        try:
            return Seen(self._read(fixed or image, crash.point), repaired=fixed is not None)
        except CannotOpen as problem:
            fixed = None if fixed else repaired(self.run.driver, image)
            if fixed is None:
                return Seen(Judged(), opens=str(problem))
        try:
            return Seen(self._read(fixed, crash.point), repaired=True)
        except CannotOpen as problem:
            return Seen(Judged(), opens=str(problem), repaired=True)

    def _read(self, image: Path, moment: int) -> Judged:
        with self.opens.open(image) as device:
            return self.judge.judge(device, moment)

    def _note(self, number: int, crash: Crash, seen: Seen) -> None:
        """Keep a failing state; the first of its kind is shrunk."""
        kept = self._keep(number)
        fault = self.reporter.fault(number, crash, seen, shrunk=False, image=kept)
        kind = fault.kind
        if kind in self.faults or len(self.faults) >= MAX_FAULTS:
            return
        if not self.options.shrinks:
            self.faults[kind] = fault
            return
        step(f"state {number} breaks a promise: shrinking it")

        def same(other: Crash) -> Seen | None:
            self.shrinking += 1
            self.image.build(other)
            again = self._checked(other) if seen.check is not None else self._look(other)
            return again if seen.is_like(again) else None

        smaller, shows, minimal = shrunk(crash, seen, same)
        if smaller != crash:
            self.image.build(smaller)
            kept = self._keep(number, "-shrunk") or kept
        self.faults[kind] = self.reporter.fault(number, smaller, shows, shrunk=minimal, image=kept)

    def _keep(self, number: int, what: str = "") -> str | None:
        """Copy the state's image to the folder for it. Return its path."""
        folder = self.options.keep
        if folder is None or self.kept >= MAX_KEPT:
            return None
        self.kept += 1
        path = folder / f"state-{number}{what}.{self.run.driver.suffix}"
        sparse.copy(str(self.image.path), str(path))
        return str(path)

    def _result(self, found: PowerCut, seconds: float, *, complete: bool) -> PowerCut:
        verdict, reason = VerdictKind.CLEAN, None
        if self.damaged:
            verdict = VerdictKind.DAMAGED
        elif self.broken:
            verdict, reason = VerdictKind.FAILED, "after a power cut, the check finds errors"
        elif not self.judged:
            verdict, reason = VerdictKind.UNDECIDABLE, "no state was judged"
        return replace(
            found,
            verdict=verdict,
            reason=reason,
            tried=self.tried,
            distinct=len(self.known),
            judged=self.judged,
            shrinking=self.shrinking,
            damaged=self.damaged,
            broken=self.broken,
            repaired=self.repaired,
            seconds=round(seconds, 3),
            complete=complete,
            faults=sorted(self.faults.values(), key=lambda fault: fault.state),
            continued=self.continued,
            later=self.later,
            checks=sorted(self.checks.values(), key=lambda one: -one.states),
            checked=self.checked,
        )
