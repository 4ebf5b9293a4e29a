"""Confirm a culprit: the prefix with it shows the symptom, the prefix without it does not.

Where runs disagree, or the op had others in flight, one run of each proves nothing. Then the counts
must be such that chance does not explain them.
"""

from dataclasses import dataclass, replace
from itertools import islice

from replay.locate.odds import proven
from replay.locate.trial import TRIES, Lab, Trial
from replay.options import Order
from replay.outcome import Outcome
from replay.runner import Runner
from replay.schedule import is_quiet, schedule
from replay.symptom import Symptom, again, symptoms
from tracer.op import Op
from tracer.verdict import SymptomKind

FEW = 3
"""Runs of each prefix that may be enough for an op that was watched doing the damage: 3 of 3 bad
runs against 0 of 3 are proof."""

SHORT = 1000
"""Ops. A prefix of fewer is cheap: it is run FEW times even if all runs agree."""

MANY = 20
"""Runs of each prefix that prove a fault which shows in a quarter of the runs: 5 of 20 against 0 of
20. Rarer faults confirm nothing."""


@dataclass(frozen=True, slots=True)
class Culprit:
    """The op found, and the evidence against it.

    The prefix that ends with the op showed the symptom in ``shown`` of ``runs`` runs. The prefix
    without it did not in ``clean`` runs.
    """

    position: int
    """The op's place in the order of submission, from 0."""
    op: Op
    shown: int = 0
    runs: int = 0
    clean: int = 0
    confirmed: bool = False
    """Whether the counts prove that the op is needed."""
    after: Outcome | None = None
    """The outcome of a bad run of the prefix with the op."""
    symptom: Symptom | None = None
    """The symptom of that run."""
    earlier: Symptom | None = None
    """The symptom of the prefix without the op, if it shows it: an earlier op did damage."""
    comes_and_goes: bool = False
    """Whether runs of one prefix disagreed."""
    needs_company: bool | None = None
    """Whether the fault shows only with other ops in flight; None if that was not tried."""
    company: Op | None = None
    """The op that must be in flight with it, if one was found."""


def confirm(
    lab: Lab,
    trial: Trial,
    position: int,
    *,
    watched: bool,
    unsteady: bool,
    patience: int = TRIES,
    clean: int = 0,
) -> Culprit:
    """Run the prefix with the op at ``position``, and the prefix without it; return the evidence.

    ``watched``: the op was seen doing the damage. ``unsteady``: runs have disagreed before.
    ``patience``: how many runs with the op may miss the symptom before the op is given up.
    ``clean``: how many runs of the trial without the op are known to be clean.
    """
    op, alone = at(lab.runner, position, trial.order)
    lab.say(f"confirming {op.describe()}")
    wanted = lab.runner.options.runs
    if position < SHORT:
        wanted = max(wanted, FEW)
    steady = alone and not unsteady
    steps = [max(wanted, count) for count in (FEW, TRIES, MANY)]
    if not watched and trial.sign.what is not SymptomKind.HANG:  # which takes long each time
        steps = steps[1:]
    if steady:
        steps.insert(0, wanted)
    # from fresh images the first run without the op compares everything: it is always done
    counts = _Counts(lab, trial, position, clean if trial.start is not None else 0)
    for needed in steps:
        counts.run_with(needed)
        while not counts.shown and counts.runs < patience:
            counts.run_with(counts.runs + 1)
        if not counts.shown:
            break
        if not counts.run_without(needed):
            return Culprit(position, op, earlier=counts.earlier, comes_and_goes=counts.clean > 0)
        steady = steady and counts.shown == counts.runs and not counts.astray
        if steady or counts.proven:
            break
    found = Culprit(
        position, op, shown=counts.shown, runs=counts.runs, clean=counts.clean, after=counts.after,
        confirmed=counts.shown > 0 and (steady or counts.proven),
        comes_and_goes=0 < counts.shown < counts.runs or counts.astray,
    )  # fmt: skip
    if found.confirmed and trial.start is not None:
        found = _repeat_from_scratch(lab, trial, found)
    if found.after is not None:
        symptom = again(trial.sign, found.after, position + 1)
        found = replace(found, symptom=symptom)
    return found


class _Counts:
    """The runs of both prefixes, counted."""

    def __init__(self, lab: Lab, trial: Trial, position: int, clean: int) -> None:
        self._lab = lab
        self._trial = trial
        self._position = position
        self.clean, self.shown, self.runs = clean, 0, 0
        self.after: Outcome | None = None
        self.earlier: Symptom | None = None
        self.astray = False
        """Whether a run with the op showed the sign before the op was sent."""

    @property
    def proven(self) -> bool:
        return proven(self.shown, self.runs, 0, self.clean)

    def run_without(self, needed: int) -> bool:
        """Run the prefix without the op until there are ``needed`` clean runs. Return whether all
        were clean."""
        while self.clean < needed:
            everything = self._trial.start is None and not self.clean
            outcome, _ = self._lab.run(
                self._trial, "before", self._position, everything=everything, confirming=True
            )
            self.earlier = earlier_damage(self._trial.sign, outcome, self._position)
            if self.earlier is not None:
                return False
            self.clean += 1
        return True

    def run_with(self, needed: int) -> None:
        """Run the prefix with the op until there are ``needed`` runs."""
        while self.runs < needed:
            everything = self._trial.start is None and self.after is None
            outcome, bad = self._lab.run(
                self._trial, "after", self._position + 1, everything=everything, confirming=True
            )
            self.runs += 1
            self._lab.followed[self._position] += bad
            if bad:
                self.shown += 1
                self.after = self.after or outcome
                shown = again(self._trial.sign, outcome, self._position + 1)
                self.astray = self.astray or (
                    shown is not None and is_astray(shown, self._position)
                )


def _repeat_from_scratch(lab: Lab, trial: Trial, found: Culprit) -> Culprit:
    """Repeat on fresh images what runs from saved images have shown, and compare everything."""
    trial = replace(trial, start=None)
    outcome, _ = lab.run(trial, "before", found.position, everything=True, confirming=True)
    earlier = earlier_damage(trial.sign, outcome, found.position)
    if earlier is not None:
        return replace(found, confirmed=False, earlier=earlier)
    for tried in range(1, TRIES + 1):
        outcome, bad = lab.run(trial, "after", found.position + 1, everything=True, confirming=True)
        if bad:
            return replace(
                found, shown=found.shown + 1, runs=found.runs + tried, clean=found.clean + 1,
                after=outcome,
            )  # fmt: skip
    return replace(found, confirmed=False)


def is_astray(symptom: Symptom, position: int) -> bool:
    """Return whether a crash or a hang came before the op at ``position`` was sent."""
    return symptom.what in (SymptomKind.CRASH, SymptomKind.HANG) and symptom.within <= position


def earlier_damage(sign: Symptom, outcome: Outcome, position: int) -> Symptom | None:
    """Return the symptom to follow if the ``position`` ops before an op show one: the same sign,
    or other sectors that read wrong on the live driver, which nothing excuses."""
    found = again(sign, outcome, position)
    if found is None and sign.can_be_watched:
        shown = symptoms(outcome, position)
        found = next((other for other in shown if other.can_be_watched), None)
    return found


def at(runner: Runner, position: int, order: Order) -> tuple[Op, bool]:
    """Return the op at ``position``, and whether it is sent with no other op in flight."""
    steps = list(
        islice(
            schedule(runner.source.trace.ops(), runner.source.trace.recorded),
            position,
            position + 2,
        )
    )
    quiet = [is_quiet(step, place) for place, step in enumerate(steps, position)]
    return steps[0].op, order.depth == 1 or all(quiet)
