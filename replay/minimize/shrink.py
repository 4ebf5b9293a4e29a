"""The shrinker: slices, delta debugging, then passes to a fixed point."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from replay.minimize.lab import Candidate, Lab
from replay.minimize.odds import Odds
from replay.minimize.part import Part
from replay.minimize.passes import PASSES, Stepwise, Whole
from replay.minimize.program import Program, pairs
from replay.minimize.reduce import reduce
from replay.minimize.slices import slices
from tracer.ranges import RangeSet

FEW = 5
"""Runs that show whether the fault shows in every run. If it does in each, and nothing is in flight
together, one run decides from then on."""

WORTH = 5_000
"""Ops of a part that is run several times to learn the rate of a fault: in a longer one, what shows
in a run is taken, and what does not is not looked at again."""

MANY = 20
"""Runs from which the rate of a fault is taken that does not show in every run."""


class NotAgain(Exception):
    """The fault does not show again, in many runs."""


@dataclass(frozen=True, slots=True)
class Shrinker:
    """Makes a part of a trace smaller. ``better`` gets each smaller candidate that shows the
    fault."""

    lab: Lab
    better: Callable[[Candidate], None]
    say: Callable[[str], None] = lambda text: None

    def shrink(self, part: Part, focus: RangeSet) -> Program:
        """Return the smallest program that was found. Raises OutOfTime, NotAgain, TraceError,
        StorageError; then the last candidate that ``better`` got is the best."""
        part = self._sliced(part, focus)
        self._weigh(part)
        for smaller in reduce(self.lab, part):
            part = smaller
            self.better(part)
        return self.polish(part.program())

    def polish(self, program: Program) -> Program:
        """Return the program after all passes, again and again until none finds anything."""
        self._weigh(program)
        while True:
            before = program
            for whole, stepwise in PASSES:
                if whole is not None:
                    program = self._whole(program, whole)
                if stepwise is not None:
                    program = self._stepwise(program, stepwise)
            if program == before:
                return program

    def _sliced(self, part: Part, focus: RangeSet) -> Part:
        """Return the smallest slice that shows the fault, or the part."""
        for slice_ in slices(part, focus):
            if self.lab.shows(slice_):
                self.say(f"{len(slice_):,} ops around the damage show it")
                self.better(slice_)
                return slice_
        return part

    def _weigh(self, candidate: Candidate) -> None:
        """See whether the fault shows in every run of a candidate that is known to show it."""
        lab = self.lab
        if isinstance(candidate, Part):
            if len(candidate) > WORTH:
                return
            together = False  # that is not known yet
        else:
            together = any(True for _ in pairs(candidate.steps))
        shown, runs = lab.rate(candidate, FEW)
        if shown == runs and not together:
            return
        if shown < runs:
            more, again = lab.rate(candidate, MANY - FEW)
            shown, runs = shown + more, runs + again
            self.say(f"it shows in {shown} of {runs} runs")
            if not shown:
                raise NotAgain
        lab.odds = Odds(shown / runs, lab.odds.sure)
        lab.forget()

    def _whole(self, program: Program, whole: Whole) -> Program:
        found = self.lab.first(_simpler(program, whole(program)))
        return self._taken(program, found[1] if found is not None else None)

    def _stepwise(self, program: Program, stepwise: Stepwise) -> Program:
        at = len(program.steps) - 1
        while at >= 0:
            found = self.lab.first(_simpler(program, stepwise(program, at)))
            before = len(program.steps)
            program = self._taken(program, found[1] if found is not None else None)
            gone = before - len(program.steps)
            # a step that has become simpler may become simpler still
            at -= gone if found is not None else 1
        return program

    def _taken(self, program: Program, found: Candidate | None) -> Program:
        if found is None:
            return program
        assert isinstance(found, Program)
        self.better(found)
        if self.lab.odds.rate is not None and not any(True for _ in pairs(found.steps)):
            self._certain(found)
        return found

    def _certain(self, program: Program) -> None:
        """If the fault shows in every run now that nothing is in flight together, one run
        decides."""
        shown, runs = self.lab.rate(program, FEW)
        if shown == runs:
            self.lab.odds = replace(self.lab.odds, rate=None)
            self.lab.forget()


def _simpler(program: Program, candidates: Iterator[Program]) -> Iterator[tuple[bool, Program]]:
    """Yield the candidates that are simpler than the program."""
    measure = program.measure
    for candidate in candidates:
        if candidate.measure < measure:
            yield True, candidate
