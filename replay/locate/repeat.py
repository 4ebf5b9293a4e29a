"""Repeat a run, for faults that do not show in every run."""

from replay.outcome import Outcome
from replay.runner import Run, Runner

TRIES = 8
"""How many clean runs show the absence of a fault that depends on timing. A fault that shows in
half of the runs is missed once in 256 times."""


def until_bad(runner: Runner, run: Run, tries: int) -> tuple[Outcome, int]:
    """Repeat a run until something is wrong, at most ``tries`` times. Return the last outcome and
    the number of runs."""
    done = 0
    while True:
        outcome = runner.run(run)
        done += 1
        if done >= tries or not outcome.clean:
            return outcome, done
