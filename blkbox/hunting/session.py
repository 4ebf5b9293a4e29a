"""The hunt: trials on all targets in turn until the time is up; each new fault is searched."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from blkbox.executors.pool import Executor, Processes
from blkbox.hunting.folder import FAULTS, Fault, State, Tally, new_fault, open_folder, save
from blkbox.hunting.trial import (
    Kept,
    Target,
    Trial,
    Tried,
    died,
    keep,
    run,
    search_died,
    smallest_block,
)
from blkbox.hunting.variants import variants_of
from tracer.disk.private import sweep
from tracer.driver.spec import parse_driver
from tracer.errors import DriverError, UsageError
from tracer.interrupts import Interrupted
from tracer.text import ops as in_ops
from tracer.verdict import VerdictKind

SEARCH = 60.0
"""Seconds that the search for a culprit may take, and then the minimising. Others are hunted
meanwhile."""

SAVE_EVERY = 5.0
"""Seconds between writes of the state: what a kill may lose is hunted again."""


@dataclass(frozen=True, slots=True)
class HuntOptions:
    """What the user asked a hunt to do."""

    drivers: Sequence[str]
    folder: Path
    seconds: float
    jobs: int
    seed: int
    ops: int
    profile: str
    plain: bool = False
    """Only the default options of each driver."""
    corpus: Path | None = None
    """A folder of an earlier hunt, whose traces are run first."""


def hunt(
    options: HuntOptions,
    say: Callable[[str], None],
    watch: Callable[[State], None] = lambda state: None,
) -> State:
    """Hunt until the time is up. Return what was run and found; the folder has it too.

    ``say`` gets a line for each fault that is new. ``watch`` is shown the state, a few times a
    second. Raises UsageError if an option is wrong or the folder has something else in
    it, DriverError if no driver can be started, StorageError if our own disk fails. A signal
    ends the hunt: ``interrupted`` has its name.
    """
    state = open_folder(
        options.folder, State(options.profile, options.ops, options.seed, options.seed)
    )
    state.interrupted = None
    sweep()
    try:
        targets = _targets(options, say)
        for target in targets:
            state.targets.setdefault(target.name, Tally())
        save(options.folder, state)
        with Processes[Tried | Kept](options.jobs) as executor:
            hunting = _Hunting(options, state, targets, executor, say, watch)
            try:
                hunting.run()
            finally:
                hunting.end()
    except Interrupted as signal:
        state.interrupted = signal.name
        say(f"{signal}: what was found is kept")
        save(options.folder, state)
    return state


def _targets(options: HuntOptions, say: Callable[[str], None]) -> list[Target]:
    """Return the targets that can be started. Raises UsageError, DriverError."""
    found: list[Target] = []
    problem: DriverError | None = None
    for text in dict.fromkeys(options.drivers):
        driver = parse_driver(text)
        if not driver.owns_image:
            raise UsageError(
                f"--driver {text}: a hunt writes over the disk again and again, and needs a driver "
                "that works on an image of ours"
            )
        for variant in variants_of(driver)[: 1 if options.plain else None]:
            target = Target(text, variant)
            try:
                grain = smallest_block(target)
            except DriverError as error:
                problem = error
                say(f"not hunted in: {target.name}: {error}")
                continue
            found.append(Target(text, variant, grain))
    if not found:
        raise problem or UsageError("there is no driver to hunt in")
    return found


class _Hunting:
    """A hunt that runs."""

    def __init__(
        self,
        options: HuntOptions,
        state: State,
        targets: list[Target],
        executor: Executor[Tried | Kept],
        say: Callable[[str], None],
        watch: Callable[[State], None],
    ) -> None:
        self._options = options
        self._state = state
        self._targets = targets
        self._executor = executor
        self._say = say
        self._watch = watch
        self._before = state.seconds
        self._started = time.monotonic()
        self._saved = self._started
        self._seeds: set[int] = set()  # of the trials that run
        self._searches: list[tuple[Tried, Fault]] = []
        self._corpus = self._found_before()

    def run(self) -> None:
        """Do trials until the time is up, then let those that run come to their end."""
        over = self._started + self._options.seconds
        while time.monotonic() < over or not self._executor.idle or self._searches:
            while self._executor.has_room and self._next(time.monotonic() < over):
                pass
            for result in self._executor.wait(0.25):
                if isinstance(result, Tried):
                    self._tried(result)
                else:
                    self._kept(result)
            self._note_time()
            if time.monotonic() - self._saved > SAVE_EVERY:
                save(self._options.folder, self._state)
                self._saved = time.monotonic()
            self._watch(self._state)

    def end(self) -> None:
        """Write the state. Seeds whose trials were cut short come again if the hunt goes on."""
        self._note_time()
        self._state.next = min(self._seeds, default=self._state.next)
        save(self._options.folder, self._state)

    def _note_time(self) -> None:
        self._state.seconds = self._before + time.monotonic() - self._started

    def _next(self, more: bool) -> bool:
        """Start the next job: a search, a trace of the corpus or, if there is time for ``more``, a
        trial. Return whether there was one."""
        if self._searches:
            tried, fault = self._searches.pop(0)
            self._executor.submit(
                keep, tried, self._options.folder / fault.folder, SEARCH,
                died=partial(search_died, tried),
            )  # fmt: skip
            return True
        if self._corpus:
            self._submit(self._corpus.pop(0))
            return True
        if not more:
            return False
        state = self._state
        target = self._targets[(state.next - state.seed) % len(self._targets)]
        trial = Trial(target, state.next, state.ops, state.profile)
        self._seeds.add(state.next)
        state.next += 1
        self._submit(trial)
        return True

    def _submit(self, trial: Trial) -> None:
        self._executor.submit(run, trial, died=partial(died, trial))

    def _found_before(self) -> list[Trial]:
        """Return the trials of the corpus: each trace on each target."""
        corpus = self._options.corpus
        if corpus is None:
            return []
        traces = sorted(corpus.glob(f"{FAULTS}/*/fault.trace"))
        if not traces:
            raise UsageError(f"--corpus {corpus}: there is no {FAULTS}/*/fault.trace")
        state = self._state
        return [
            Trial(target, state.seed, state.ops, state.profile, trace)
            for target in self._targets
            for trace in traces
        ]

    def _tried(self, tried: Tried) -> None:
        """Note what came of a trial. If it shows a new fault, search for the culprit."""
        trial, state = tried.trial, self._state
        if trial.trace is None:
            self._seeds.discard(trial.seed)
        tally = state.targets[trial.target.name]
        tally.seeds += 1
        tally.ops += trial.ops
        if tried.verdict is VerdictKind.UNDECIDABLE:
            tally.undecidable += 1
            tally.why = tried.reason
        if tried.key is None:
            return
        tally.faulty += 1
        known = state.fault(tried.key)
        if known is not None:
            known.seen += 1
            return
        fault = Fault(
            tried.key, trial.target.name, trial.seed, new_fault(state, tried.key), tried.reason,
            seconds=state.seconds,
        )  # fmt: skip
        state.faults.append(fault)
        self._say(f"{trial.target.name}, seed {trial.seed}: {tried.reason}")
        self._searches.append((tried, fault))

    def _kept(self, kept: Kept) -> None:
        """Note what the search for a culprit has shown."""
        fault = self._state.fault(kept.key)
        if fault is None:
            return
        fault.culprit, fault.small = kept.culprit, kept.small
        said = [f"culprit {kept.culprit}"] if kept.culprit is not None else []
        said += [f"{in_ops(kept.small)} are left of it"] if kept.small is not None else []
        if said:
            self._say(f"{fault.folder}: {', '.join(said)}")
        save(self._options.folder, self._state)
