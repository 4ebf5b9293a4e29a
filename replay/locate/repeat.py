"""Repeat a run: for faults that do not show every time."""

from replay.outcome import Outcome
from replay.runner import Run, Runner

TRIES = 8
"""Runs before a fault that depends on timing is taken not to show. A fault that shows in half of
its runs is missed once in 256 times."""


def until_bad(runner: Runner, run: Run, tries: int) -> tuple[Outcome, int]:
    """Do a run until something is wrong, at most ``tries`` times; return the last outcome, and how
    many runs that took."""
    done = 0
    while True:
        outcome = runner.run(run)
        done += 1
        if done >= tries or not outcome.clean:
            return outcome, done
