"""One search: from a symptom to the culprit, in steps from the cheapest to the surest."""

from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice

from replay.locate.bisect import bisect, save_base
from replay.locate.bracket import bracket, last_right
from replay.locate.company import find_company, needs_company, vanishes
from replay.locate.confirm import Culprit, at, confirm, is_astray
from replay.locate.trial import TRIES, Lab, Trial
from replay.locate.watch import Seen, watch
from replay.options import Order
from replay.outcome import Outcome, Stage
from replay.player import MAX_FAULTS, Watched
from replay.run import OutOfTime
from replay.schedule import schedule
from replay.symptom import Symptom, is_same
from tracer.driver.command import check_failed
from tracer.op import MUTATING, Fault, Kind, Op
from tracer.verdict import SymptomKind

MAX_ROUNDS = 8
"""The most times that a search starts again from earlier damage of the same kind."""

MAX_SUSPECTS = 5
"""The most suspects that are named if there is no culprit."""


class NoCulprit(StrEnum):
    """Why there is no culprit."""

    WRONG_FROM_THE_START = "a fresh image shows it before the first op"
    NOT_TRACED = "it was not traced to one op"
    OUT_OF_TIME = "the time for the search was up"


@dataclass(frozen=True, slots=True)
class Suspect:
    """An op that may be the culprit."""

    position: int
    op: Op
    followed: int
    """How often damage followed it."""


@dataclass(frozen=True, slots=True)
class Located:
    """The result of a search."""

    culprit: Culprit | None = None
    """The culprit, confirmed."""
    why: NoCulprit | None = None
    """Why there is none."""
    suspects: tuple[Suspect, ...] = ()
    """If there is none, the ops that damage followed, the most frequent first."""
    others: tuple[tuple[int, Op], ...] = ()
    """Other ops that were seen doing damage of their own, and their positions."""


class Search:
    """A search, and what it has learned so far about when the fault shows."""

    def __init__(
        self, lab: Lab, symptom: Symptom, outcome: Outcome, ops: int, order: Order
    ) -> None:
        self._lab = lab
        self._symptom = symptom
        self._outcome = outcome
        self._ops_played = ops
        self._order = order
        reads = (position for position, found in outcome.faults if found.fault == Fault.DATA)
        # beyond the limit on faults, a read may have been wrong without being noted
        self._wrong_reads = frozenset(reads) if len(outcome.faults) < MAX_FAULTS else None
        self._unsteady = False
        """Whether runs have disagreed: then one clean run does not make a prefix clean."""
        self._alone: bool | None = None
        """Whether the fault shows with one op in flight at a time; None if that was not tried."""
        self._seen: list[Seen] = []
        """What the first watched run has shown."""
        self._later: list[int] = []
        """Ops that showed damage of their own, after the damage that the search went on with."""
        self._window = symptom.right, symptom.within

    def locate(self) -> Located:
        """Follow the symptom to an op. While the ops before that op show it too, go on there."""
        if self._symptom.within <= self._lab.runner.first:
            return Located(why=NoCulprit.WRONG_FROM_THE_START)
        try:
            culprit = self._follow()
            if isinstance(culprit, NoCulprit):
                return self._without(culprit)
        except OutOfTime:
            return self._without(NoCulprit.OUT_OF_TIME)
        sooner = self._seen_by_check(culprit)
        found = Located(self._with_company(sooner or culprit), others=self._others(culprit))
        if sooner is not None:
            found = replace(found, others=((culprit.position, culprit.op), *found.others))
        return found

    def _seen_by_check(self, culprit: Culprit) -> Culprit | None:
        """Return an op before the culprit after which the check command fails already: then the
        image was spoilt there, and the culprit only made it show in the data."""
        ops = culprit.position
        if self._outcome.check is None or ops <= self._lab.runner.first:
            return None
        sign = Symptom(
            SymptomKind.CHECK, check_failed(self._outcome.check), ops,
            stage=Stage.CHECKED,
        )  # fmt: skip
        if is_same(self._symptom, sign):
            return None
        trial = Trial(sign, self._order)
        try:
            self._lab.say(f"does the check fail before {culprit.op.describe()}?")
            if not self._lab.until_bad(trial, "check", ops, TRIES if self._unsteady else 2)[1]:
                return None
            window, unsteady = self._window, self._unsteady
            found = self._bisect_once(trial, self._lab.runner.first, ops, restart=False)
            if found is None or not found.confirmed:
                self._unsteady = True
                found = self._bisect_once(trial, self._lab.runner.first, ops, restart=False)
            if found is not None and found.confirmed and self._causes(found, culprit):
                return found
            self._window, self._unsteady = window, unsteady
        except OutOfTime:
            self._lab.say("no time is left to see whether the check fails earlier")
        return None

    def _causes(self, found: Culprit, culprit: Culprit) -> bool:
        """Whether the culprit does no damage if the op that was found is not sent."""
        self._lab.say(f"leaving out {found.op.describe()}")
        order = replace(self._order, skip=frozenset({found.position}))
        trial = Trial(culprit.symptom or self._symptom, order)
        return bool(vanishes(self._lab, trial, culprit.position, culprit.shown, culprit.runs))

    def _follow(self) -> Culprit | NoCulprit:
        symptom = self._symptom
        for number in range(MAX_ROUNDS):
            found = self._trace(symptom, number)
            if found is None:
                return NoCulprit.NOT_TRACED
            if found.confirmed:
                return found
            if found.earlier is None:
                return NoCulprit.NOT_TRACED
            if found.position <= self._lab.runner.first:
                return NoCulprit.WRONG_FROM_THE_START
            if not is_same(symptom, found.earlier):
                self._later.append(found.position)
            symptom = found.earlier
        return NoCulprit.NOT_TRACED

    def _trace(self, symptom: Symptom, number: int) -> Culprit | None:
        """Trace the symptom to an op, confirmed or not. None if it does not show again."""
        lab, trial = self._lab, Trial(symptom, self._order)
        brackets = self._bracket(symptom)
        position, watched = symptom.suspect, False
        if symptom.can_be_watched:
            seen = watch(lab, trial, brackets, symptom.within, label=f"watch-{number}")
            if seen:
                self._seen = self._seen or seen
                position, watched = seen[0].last, True
        hidden = symptom.can_be_watched and not watched
        if self._may_be_ours(symptom):
            # most often the last write of a damaged sector was lost
            position = last_right(lab.runner, brackets)
        if symptom.what is SymptomKind.READ and not watched and self._stays(symptom):
            position = None  # the read showed the damage and did not do it
        if position is not None:
            lone = symptom.what is SymptomKind.READ and not watched
            culprit = self._confirm(replace(trial, twice=lone), position, watched=watched)
            self._unsteady = self._unsteady or _contradicts(symptom, culprit, watched)
            goes_on = culprit.earlier is not None and not self._may_be_ours(symptom)
            if culprit.confirmed or goes_on:
                return culprit
        self._unsteady = self._unsteady or hidden
        good, bad = max(symptom.right, last_right(lab.runner, brackets)), symptom.within
        if hidden and self._order.depth != 1:
            lab.say("watching hides the fault: watching only where no op was in flight")
            group: list[Seen] = []
            for start in dict.fromkeys((save_base(lab, trial, good), None)):
                trial = replace(trial, start=start)
                group = group or watch(
                    lab, trial, brackets, bad, label=f"quiet-{number}", quiet=True
                )
            if group:
                good, bad = max(good, group[0].first), group[0].last + 1
        return self._bisect(symptom, good, bad, hidden)

    def _bracket(self, symptom: Symptom) -> list[Watched]:
        if not symptom.damage:
            return []
        reads = self._wrong_reads if symptom.can_be_watched else None
        return bracket(self._lab.runner, symptom.damage, symptom.within, wrong_reads=reads)

    def _stays(self, symptom: Symptom) -> bool:
        """Whether the image was still wrong at the end where the symptom is."""
        live = self._outcome.live
        return live is not None and any(
            symptom.damage.overlaps(start, end) for start, end in live.damage
        )

    @staticmethod
    def _may_be_ours(symptom: Symptom) -> bool:
        """Whether the flush at the end of a shorter run may do the damage that in the whole trace
        one of its own flushes did."""
        return symptom.what in (SymptomKind.FLUSH, SymptomKind.REOPEN)

    def _bisect(self, symptom: Symptom, good: int, bad: int, hidden: bool) -> Culprit | None:
        """Bisect prefixes. Runs flush the disk at their end, unless damage showed after a restart:
        a flush of ours may do what only a later op of the trace did, so at first there is none."""
        if symptom.what is not SymptomKind.REOPEN:
            return self._bisect_ways(symptom, good, bad, hidden, flush=True)
        found = self._bisect_ways(symptom, good, bad, hidden, flush=False)
        if found is not None and found.confirmed:
            if not self._only_promised(found):
                return found
            # it promised to keep what an earlier op may have lost
            bad = found.position
        sooner = self._bisect_ways(symptom, good, bad, hidden, flush=True)
        return sooner if sooner is not None and sooner.confirmed else found or sooner

    def _bisect_ways(
        self, symptom: Symptom, good: int, bad: int, hidden: bool, *, flush: bool
    ) -> Culprit | None:
        """Bisect from saved images if that can be done, else whole prefixes."""
        lab = self._lab
        self._window = good, bad
        found: Culprit | None = None
        trial = Trial(symptom, self._order, flush=flush)
        base = save_base(lab, trial, good)
        for restart in (True, False) if lab.runner.can_save else (False,):
            trial = replace(trial, order=self._order, start=base if restart else None)
            if hidden and self._order.depth != 1 and self._alone is None:
                trial = self._try_alone(trial, bad)
            found = self._bisect_once(trial, good, bad, restart=restart)
            if found is not None and found.confirmed:
                return found
            if restart:
                lab.say("saved images lead to no op: trying whole prefixes")
        return found

    def _only_promised(self, found: Culprit) -> bool:
        """Whether the op is a flush, and what is damaged was written since the flush before it."""
        if found.op.kind != Kind.FLUSH or found.symptom is None:
            return False
        written = False
        steps = islice(
            schedule(self._lab.runner.source.trace.ops(), self._lab.runner.source.trace.recorded),
            found.position,
        )
        for op in (step.op for step in steps):
            if op.kind == Kind.FLUSH:
                written = False
            elif op.kind in MUTATING and found.symptom.damage.overlaps(op.offset, op.end):
                written = True
        return written

    def _try_alone(self, trial: Trial, within: int) -> Trial:
        """If the fault shows with one op in flight at a time, go on that way: it is deterministic
        then."""
        self._lab.say("watching hides the fault: trying one op at a time")
        alone = replace(trial, order=replace(self._order, depth=1))
        _, bad = self._lab.run(alone, "alone", within)
        self._alone = bad
        if not bad:
            self._lab.say("it needs ops in flight together, or does not show in every run")
            return trial
        self._lab.say("the fault shows: going on with one op at a time")
        self._order, self._unsteady = alone.order, False
        return alone

    def _bisect_once(self, trial: Trial, good: int, bad: int, *, restart: bool) -> Culprit | None:
        tries = TRIES if self._unsteady else 1
        found = bisect(self._lab, trial, good, bad, tries=tries, restart=restart)
        if found is None:
            return None
        # if saved images hide the fault, that soon shows
        patience = tries if restart else TRIES
        trial = replace(trial, start=found.start)
        return self._confirm(trial, found.position, patience=patience, clean=found.clean)

    def _confirm(
        self,
        trial: Trial,
        position: int,
        *,
        watched: bool = False,
        patience: int = TRIES,
        clean: int = 0,
    ) -> Culprit:
        culprit = confirm(
            self._lab, trial, position,
            watched=watched, unsteady=self._unsteady, patience=patience, clean=clean,
        )  # fmt: skip
        self._unsteady = self._unsteady or culprit.comes_and_goes
        return culprit

    # ---------------------------------------------------------------- what else is known

    def _with_company(self, culprit: Culprit) -> Culprit:
        """Add whether the culprit needs other ops in flight, and which, as far as time allows."""
        lab = self._lab
        if self._alone or at(lab.runner, culprit.position, self._order)[1]:
            return replace(culprit, needs_company=False if self._alone else None)
        trial = Trial(culprit.symptom or self._symptom, self._order)
        try:
            trial = replace(trial, start=save_base(lab, trial, self._window[0]))
            needs = needs_company(lab, trial, culprit.position, culprit.shown, culprit.runs)
            culprit = replace(culprit, needs_company=needs)
            if needs:
                op = find_company(lab, trial, culprit.position, culprit.shown, culprit.runs)
                culprit = replace(culprit, company=op)
        except OutOfTime:
            lab.say("no time is left to see which other ops it needs")
        return culprit

    def _others(self, culprit: Culprit) -> tuple[tuple[int, Op], ...]:
        """Return the other ops after which damaged sectors went wrong."""
        try:
            seen = self._seen + self._watch_later(culprit)
        except OutOfTime:
            seen = self._seen
        found = {*self._later, *(one.last for one in seen)}
        positions = sorted(found - {culprit.position})
        return tuple(self._ops(positions))

    def _watch_later(self, culprit: Culprit) -> list[Seen]:
        """Watch the sectors that were written again after the culprit and are damaged in the end:
        that damage is not the culprit's."""
        live = self._outcome.live
        if not self._symptom.can_be_watched or live is None or not live.damage:
            return []
        known = {one.start for one in self._seen}
        sectors = [
            sector
            for sector in bracket(
                self._lab.runner, live.damage, self._ops_played, wrong_reads=self._wrong_reads
            )
            if sector.after > max(culprit.position + 1, self._symptom.within)
            or (sector.after > culprit.position + 1 and sector.start not in known)
        ]
        if not sectors:
            return []
        trial = Trial(self._symptom, self._order)
        return watch(self._lab, trial, sectors, self._ops_played, label="watch-later")

    def _without(self, why: NoCulprit) -> Located:
        """Return the result of a search that confirmed no op: the suspects."""
        followed = self._lab.followed
        for sector in self._bracket(self._symptom):
            if sector.after:
                followed[sector.after - 1] += 0  # its data is missing, but no run has shown more
        good, bad = self._window
        if self._symptom.suspect is not None:
            followed[self._symptom.suspect] += 1
        if bad - good <= MAX_SUSPECTS:
            for position in range(good, bad):
                followed[position] += 0
        ranked = sorted(followed, key=lambda position: (-followed[position], position))
        chosen = ranked[:MAX_SUSPECTS]
        ops = dict(self._ops(sorted(chosen)))
        return Located(
            why=why,
            suspects=tuple(
                Suspect(position, ops[position], followed[position]) for position in chosen
            ),
        )  # fmt: skip

    def _ops(self, positions: list[int]) -> list[tuple[int, Op]]:
        """Return the ops at these positions, in ascending order."""
        if not positions:
            return []
        wanted = set(positions)
        steps = islice(
            schedule(self._lab.runner.source.trace.ops(), self._lab.runner.source.trace.recorded),
            positions[-1] + 1,
        )
        return [(place, step.op) for place, step in enumerate(steps) if place in wanted]


def _contradicts(symptom: Symptom, found: Culprit, watched: bool) -> bool:
    """Whether the prefix without an op showed the symptom although an earlier run had that very
    prefix right: the run that was watched, or the one that went on until a later crash."""
    earlier = found.earlier
    if earlier is None or not is_same(symptom, earlier):
        return False
    return watched or is_astray(earlier, found.position - 1)
