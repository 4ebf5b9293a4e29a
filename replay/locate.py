"""Verdict -> culprit: the first op after which the test image is wrong.

docs/finding-culprits.md tells the whole story: watch the damaged sectors (replay/watch.py); where that
cannot show it, bisect prefixes (replay/bisect.py); in any case confirm with runs from scratch that the
prefix before the culprit is clean and the prefix with it is not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from replay.bisect import TRIES, bisect, until_bad
from replay.runner import Outcome, Runner
from replay.schedule import is_quiet, schedule
from replay.symptom import Symptom, symptom_of
from replay.watch import watch
from tracer.op import Op

MAX_ROUNDS = 8
"""Times that confirmation may find an earlier corruption (later overwritten) before we settle."""

WRONG_FROM_THE_START = "a fresh image is wrong before the first op"
NOT_AGAIN = "it did not show in another run"

Say = Callable[[str], None]


@dataclass(slots=True)
class Culprit:
    """The op found, and how sure that is: the prefix with it was wrong in ``shown`` of ``runs`` runs,
    and clean without it in each of ``clean``. ``after`` is the first of the runs that was wrong."""

    position: int
    op: Op
    symptom: Symptom
    after: Outcome | None = None
    shown: int = 0
    runs: int = 0
    clean: int = 0
    needs_company: bool | None = None
    """Whether it shows only with other ops in flight; None where that was not tried."""

    @property
    def confirmed(self) -> bool:
        return self.shown > 0 and self.clean > 0


@dataclass(slots=True)
class _Search:
    """What does not change while one symptom is traced to its culprit."""

    runner: Runner
    runs: int
    say: Say
    round_: int = 0
    company: bool | None = None
    tries: int = 1
    """Clean runs that it takes to call a prefix clean: more once the fault was seen to come and go, or
    where it cannot be told."""

    def confirm(
        self, position: int, symptom: Symptom, *, watched: bool = False
    ) -> tuple[Culprit, Symptom | None]:
        """Run the prefix without the op, and with it. Returns what that says of it, and the sign of
        earlier trouble, if the prefix without it shows one. An op that was not ``watched`` doing the
        damage, and had others in flight beside it, may have been met by chance."""
        runner, spent = self.runner, self.runner.replayed
        op, alone = self._at(position)
        self.say(f"confirming {op.describe()}")
        culprit = Culprit(position, op, symptom, needs_company=self.company)
        try:
            tries = self.tries if watched or alone else TRIES
            before, clean = until_bad(runner, f"before-{self.round_}", position, max(tries, self.runs))
            if not before.clean:
                if clean > 1:  # that many runs it took: it comes and goes
                    self.tries = TRIES
                return culprit, symptom_of(before, position)
            culprit.clean = clean
            while culprit.runs < self.runs or (not culprit.shown and culprit.runs < TRIES):
                culprit.runs += 1
                after = runner.run(f"after-{self.round_}", upto=position + 1)
                culprit.shown += not after.clean
                if culprit.after is None and not after.clean:
                    culprit.after = after
            return culprit, None
        finally:
            runner.confirming += runner.replayed - spent

    def _at(self, position: int) -> tuple[Op, bool]:
        """An op, and whether it is sent with no other in flight."""
        steps = list(islice(schedule(self.runner.source.trace.ops()), position, position + 2))
        quiet = [is_quiet(step, place) for place, step in enumerate(steps, position)]
        return steps[0].op, self.runner.depth == 1 or all(quiet)


def locate(
    runner: Runner, symptom: Symptom, say: Say = lambda text: None, *, runs: int = 1
) -> Culprit | str:
    """Find the culprit behind a symptom, or say why there is none. Each step of confirmation is done
    ``runs`` times, and more often where the fault does not show in every run."""
    best: Culprit | None = None
    search = _Search(runner, runs, say)
    for search.round_ in range(MAX_ROUNDS):
        found = _once(search, symptom)
        if isinstance(found, str):
            return best or found
        culprit, earlier = found
        if culprit.confirmed or earlier is None:
            return culprit if culprit.confirmed or best is None else best
        best = best or culprit
        if culprit.position == 0:
            return WRONG_FROM_THE_START
        symptom = earlier
    return best or NOT_AGAIN


def _once(search: _Search, symptom: Symptom) -> tuple[Culprit, Symptom | None] | str:
    """Trace one symptom to an op, in steps from the cheapest to the surest."""
    runner, say = search.runner, search.say
    position = watch(runner, symptom, say, f"watch-{search.round_}")
    hidden = symptom.targets is not None and position is None
    if hidden:  # what is there to be watched and is not seen depends on what is in flight, or when
        search.tries = TRIES
    watched = position is not None
    if position is None:
        position = symptom.suspect
    if position is not None:
        found = search.confirm(position, symptom, watched=watched)
        if found[0].confirmed or found[1] is not None:
            return found
    if hidden and runner.depth != 1:
        say("looking hides it: trying one op at a time")
        alone = _one_at_a_time(runner, symptom)
        search.company = alone is None
        if alone is not None:
            say("that shows it as well: going on with one op at a time")
            runner.depth = 1
            return _once(search, alone)
        say(f"that does not: it needs ops in flight together; each step takes up to {TRIES} runs")
    for restart in (True, False) if runner.can_save else (False,):
        position = bisect(runner, symptom.right, symptom.within, search.tries, say, restart=restart)
        if position is None:
            return NOT_AGAIN
        found = search.confirm(position, symptom)
        if found[0].confirmed or not restart:
            return found
        say("from saved images that is not where it goes wrong: trying whole prefixes")
    raise AssertionError("the last way was tried")


def _one_at_a_time(runner: Runner, symptom: Symptom) -> Symptom | None:
    """The fault's sign with one op in flight, or None where it does not show."""
    depth, runner.depth = runner.depth, 1
    try:
        return symptom_of(runner.run("alone", upto=symptom.within), symptom.within)
    finally:
        runner.depth = depth
