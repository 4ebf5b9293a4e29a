"""Symptom -> culprit: the first op after which the test image is wrong.

The steps, from the cheapest to the surest: watch the damaged sectors (watch.py), suspect the op
that showed the symptom, try with one op in flight at a time, bisect prefixes (bisect.py). Each op
found is confirmed (confirm.py). If that shows earlier damage, the search starts again from there.
docs/finding-culprits.md explains why.
"""

from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

from replay.locate.bisect import bisect
from replay.locate.confirm import Culprit, confirm
from replay.locate.repeat import TRIES
from replay.locate.watch import watch
from replay.options import Order
from replay.runner import Run, Runner
from replay.symptom import Symptom, symptom_of

__all__ = ["Culprit", "NoCulprit", "locate"]

MAX_ROUNDS = 8
"""The most symptoms that a search traces. Confirmation may show earlier damage each time."""


class NoCulprit(StrEnum):
    """Why there is no culprit."""

    WRONG_FROM_THE_START = "a fresh image is wrong before the first op"
    NOT_AGAIN = "it did not show in another run"


def locate(
    runner: Runner,
    symptom: Symptom,
    *,
    order: Order,
    say: Callable[[str], None] = lambda text: None,
) -> Culprit | NoCulprit:
    """Find the culprit behind a symptom that showed with ops sent in ``order``.

    ``say`` gets a line for each step. Raises what ``Runner.run`` raises.
    """
    return _Search(runner, order, say).locate(symptom)


class _Search:
    """One search, and what it has learned so far about when the fault shows."""

    def __init__(self, runner: Runner, order: Order, say: Callable[[str], None]) -> None:
        self._runner = runner
        self._say = say
        self._order = order
        self._round = 0
        self._tries = 1
        """How many clean runs make a prefix clean. TRIES once the fault has shown in some runs
        only, or has hidden from watching."""
        self._needs_company: bool | None = None

    def locate(self, symptom: Symptom) -> Culprit | NoCulprit:
        """Trace a symptom to an op. While the ops before that op show a symptom too, trace that
        symptom."""
        if symptom.within <= self._runner.first:
            return NoCulprit.WRONG_FROM_THE_START
        best: Culprit | None = None  # the first op found: named if no op is confirmed
        for self._round in range(MAX_ROUNDS):
            found = self._trace(symptom)
            if isinstance(found, NoCulprit):
                return best or found
            if found.confirmed:
                return found
            best = best or found
            if found.earlier is None:
                return best
            if found.position <= self._runner.first:
                return NoCulprit.WRONG_FROM_THE_START
            symptom = found.earlier
        return best or NoCulprit.NOT_AGAIN

    def _trace(self, symptom: Symptom) -> Culprit | NoCulprit:
        """Trace one symptom to an op, in steps from the cheapest to the surest."""
        position = watch(
            self._runner, symptom,
            order=self._order, label=f"watch-{self._round}", say=self._say,
        )  # fmt: skip
        watched = position is not None
        hidden = symptom.targets is not None and not watched
        if hidden:  # damage that hides from watching depends on timing, or on the ops in flight
            self._tries = TRIES
        if position is None:
            position = symptom.suspect
        if position is not None:
            culprit = self._confirm(position, watched=watched)
            if culprit.confirmed or culprit.earlier is not None:
                return culprit
        if hidden and self._order.depth != 1:
            alone = self._one_at_a_time(symptom)
            if alone is not None:
                return self._trace(alone)
        return self._bisect(symptom)

    def _one_at_a_time(self, symptom: Symptom) -> Symptom | None:
        """Return the fault's symptom with one op in flight at a time, or None if it does not show.
        If it shows, the search goes on that way, and is deterministic again."""
        self._say("watching hides the fault: trying one op at a time")
        order = replace(self._order, depth=1)
        alone = symptom_of(self._runner.run(Run("alone", order, symptom.within)), symptom.within)
        self._needs_company = alone is None
        if alone is None:
            needs = "it needs ops in flight together"
            self._say(f"the fault does not show: {needs}; each step takes up to {TRIES} runs")
        else:
            self._say("the fault shows: going on with one op at a time")
            self._order = order
        return alone

    def _bisect(self, symptom: Symptom) -> Culprit | NoCulprit:
        """Bisect from saved images. If that cannot be done, or the op found is not confirmed,
        bisect whole prefixes."""
        if self._runner.can_save:
            found = self._bisect_once(symptom, restart=True)
            if isinstance(found, NoCulprit) or found.confirmed:
                return found
            self._say("saved images lead to an op that cannot be confirmed: trying whole prefixes")
        return self._bisect_once(symptom, restart=False)

    def _bisect_once(self, symptom: Symptom, *, restart: bool) -> Culprit | NoCulprit:
        position = bisect(
            self._runner, max(symptom.right, self._runner.first), symptom.within,
            order=self._order, tries=self._tries, restart=restart, say=self._say,
        )  # fmt: skip
        if position is None:
            return NoCulprit.NOT_AGAIN
        return self._confirm(position)

    def _confirm(self, position: int, *, watched: bool = False) -> Culprit:
        culprit = confirm(
            self._runner, position,
            order=self._order, tries=self._tries, watched=watched, attempt=self._round,
            say=self._say,
        )  # fmt: skip
        if culprit.comes_and_goes:
            self._tries = TRIES
        return replace(culprit, needs_company=self._needs_company)
