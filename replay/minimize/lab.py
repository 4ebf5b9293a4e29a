"""The lab: tests whether a candidate shows the fault, and counts what that costs.

Candidates are parts of the trace and programs. A test that was done is not done again. Tests of
small candidates run side by side, as many as there are processes; which candidate is taken does not
depend on that.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from replay.minimize.odds import Odds
from replay.minimize.part import Part
from replay.minimize.program import Program
from replay.run import OutOfTime

SMALL = 20_000
"""Ops of a candidate that is worth a test which may turn out to be needless."""

Candidate = Part | Program
Tag = TypeVar("Tag")


@dataclass(frozen=True, slots=True)
class Shown:
    """What one run of a candidate showed."""

    fault: bool
    """Whether it showed the fault that is sought."""
    ops: int = 0
    """Ops that were sent to the driver."""
    others: tuple[str, ...] = ()
    """Other faults, in words."""
    undecidable: str | None = None
    """Why the candidate could not be run; None if it could."""


Tester = Callable[[Sequence[Candidate]], Sequence[Shown]]
"""Runs candidates, side by side, and returns what each has shown."""


@dataclass(slots=True)
class Counters:
    """What the tests have cost."""

    tests: int = 0
    """Candidates that were tested."""
    runs: int = 0
    """Runs of the driver."""
    ops: int = 0
    """Ops that were sent to it."""


@dataclass(slots=True)
class Lab:
    """Where candidates are tested."""

    run: Tester
    jobs: int = 1
    """Runs side by side."""
    deadline: float = float("inf")
    """When to stop, by the monotonic clock."""
    odds: Odds = field(default_factory=Odds)
    counters: Counters = field(default_factory=Counters)
    others: dict[str, Program] = field(default_factory=dict)
    """The smallest program that showed each other fault."""
    _known: dict[object, bool] = field(default_factory=dict)

    def shows(self, candidate: Candidate) -> bool:
        """Whether a candidate shows the fault. Raises OutOfTime, TraceError, StorageError."""
        return self.first([(True, candidate)]) is not None

    def first(self, candidates: Iterable[tuple[Tag, Candidate]]) -> tuple[Tag, Candidate] | None:
        """Return the first candidate that shows the fault, with its tag; None if none does. Raises
        as ``shows``."""
        rest = iter(candidates)
        for tag, candidate in rest:
            group = [(tag, candidate)]
            if self.odds.rate is None and len(candidate) <= SMALL:
                group += islice(rest, self.jobs - 1)
            for pair, fault in zip(group, self._test([one for _, one in group]), strict=True):
                if fault:
                    return pair
        return None

    def rate(self, candidate: Candidate, runs: int) -> tuple[int, int]:
        """Run a candidate so many times. Return how often it showed the fault, and the runs."""
        shown = done = 0
        while done < runs:
            results = self._run([candidate] * min(self.jobs, runs - done))
            done += len(results)
            shown += sum(result.fault for result in results)
        return shown, done

    def forget(self) -> None:
        """Test again what was tested: the odds have changed."""
        self._known.clear()

    def _test(self, candidates: list[Candidate]) -> list[bool]:
        """Return whether each candidate shows the fault."""
        keys = [candidate.key for candidate in candidates]
        new = {
            key: candidate
            for key, candidate in zip(keys, candidates, strict=True)
            if key not in self._known
        }
        self.counters.tests += len(new)
        if self.odds.rate is None:
            for key, result in zip(new, self._run(list(new.values())), strict=True):
                self._known[key] = result.fault
        else:
            for key, candidate in new.items():
                self._known[key] = self._repeat(candidate)
        return [self._known[key] for key in keys]

    def _repeat(self, candidate: Candidate) -> bool:
        shown = runs = 0
        while (decided := self.odds.decide(shown, runs)) is None:
            results = self._run([candidate] * self.jobs)
            if any(result.undecidable for result in results):
                return False
            runs += len(results)
            shown += sum(result.fault for result in results)
        return decided

    def _run(self, candidates: Sequence[Candidate]) -> Sequence[Shown]:
        if not candidates:
            return []
        if time.monotonic() > self.deadline:
            raise OutOfTime
        results = self.run(candidates)
        for candidate, result in zip(candidates, results, strict=True):
            self.counters.runs += 1
            self.counters.ops += result.ops
            for words in result.others:
                self._keep(words, candidate)
        return results

    def _keep(self, words: str, candidate: Candidate) -> None:
        """Keep a program that shows another fault, if it is the smallest so far."""
        if len(candidate) > SMALL:
            return
        program = candidate.program()
        if words not in self.others or program.measure < self.others[words].measure:
            self.others[words] = program
