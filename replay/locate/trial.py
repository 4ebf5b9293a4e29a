"""Trials: runs of prefixes that show the symptom which a search follows, or do not."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from replay.cost import Purpose
from replay.options import Order
from replay.outcome import Outcome, Saved, Stage
from replay.player import Probe
from replay.run import OutOfTime, Run
from replay.runner import Runner
from replay.symptom import Symptom

TRIES = 8
"""How many clean runs show the absence of a fault that depends on timing. A fault that shows in
half of the runs is missed once in 256 times."""


@dataclass(frozen=True, slots=True)
class Trial:
    """How prefixes are played and judged."""

    sign: Symptom
    """What a run must show to be bad. Other faults do not count."""
    order: Order
    flush: bool = True
    """Whether the disk is flushed at the end of each run."""
    start: Saved | None = None
    """The images that runs start from; None is fresh images."""
    twice: bool = False
    """Whether runs look at the damaged sectors, and at nothing else, twice: the fault may be a read
    that goes wrong once, and any read of ours may be that read."""


@dataclass(slots=True)
class Lab:
    """Where a search does its trials: the runner, the deadline, and what was seen so far."""

    runner: Runner
    say: Callable[[str], None]
    deadline: float
    """When the search must end, by the monotonic clock."""
    followed: Counter[int] = field(default_factory=Counter)
    """How often damage followed an op, by the op's position."""
    bases: dict[tuple[int, bool], Saved | None] = field(default_factory=dict)
    """Saved images, by the number of ops in them and whether the disk was flushed."""

    def check_time(self) -> None:
        """Raise OutOfTime if the search has used up its time."""
        if time.monotonic() > self.deadline:
            raise OutOfTime

    def run(
        self,
        trial: Trial,
        label: str,
        upto: int,
        *,
        save: bool = False,
        probe: Probe | None = None,
        everything: bool = False,
        confirming: bool = False,
    ) -> tuple[Outcome, bool]:
        """Play the first ``upto`` ops. Return the outcome, and whether it shows the sign.

        Raises OutOfTime, and what ``Runner.run`` raises.
        """
        self.check_time()
        last = max(trial.sign.stage, Stage.LIVE) if everything else trial.sign.stage
        run = Run(
            label, trial.order, upto,
            start=trial.start, save=save, probe=probe, sign=trial.sign,
            last=last, everything=everything and not trial.twice, twice=trial.twice,
            flush=trial.flush, deadline=self.deadline,
            purpose=Purpose.CONFIRM if confirming else Purpose.SEARCH,
        )  # fmt: skip
        outcome = self.runner.run(run)
        return outcome, run.shows(outcome)

    def until_bad(
        self, trial: Trial, label: str, upto: int, tries: int, *, save: bool = False
    ) -> tuple[Outcome, bool]:
        """Repeat a run until it shows the sign, at most ``tries`` times."""
        for _ in range(max(1, tries)):
            outcome, bad = self.run(trial, label, upto, save=save)
            if bad:
                break
        return outcome, bad
