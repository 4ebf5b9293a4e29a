"""Confirm a culprit, with runs from fresh images and without watching.

Without the culprit the prefix must be clean, with the culprit it must be wrong. If the prefix
without it is wrong too, an earlier op did damage, and the search goes on from there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from replay.cost import Purpose
from replay.locate.repeat import TRIES, until_bad
from replay.options import Order
from replay.outcome import Outcome
from replay.runner import Run, Runner
from replay.schedule import is_quiet, schedule
from replay.symptom import Symptom, symptom_of
from tracer.op import Op


@dataclass(frozen=True, slots=True)
class Culprit:
    """The op found, and the evidence against it.

    The prefix that ends with the op was wrong in ``shown`` of ``runs`` runs. The prefix without it
    was clean in each of ``clean`` runs.
    """

    position: int
    """The op's place in the order of submission, from 0."""
    op: Op
    shown: int = 0
    runs: int = 0
    clean: int = 0
    after: Outcome | None = None
    """The outcome of the first wrong run of the prefix with the op."""
    symptom: Symptom | None = None
    """The symptom of that run."""
    earlier: Symptom | None = None
    """The symptom of the prefix without the op, if it is wrong: an earlier op did damage."""
    comes_and_goes: bool = False
    """Whether the prefix without the op was clean in some runs and wrong in another."""
    needs_company: bool | None = None
    """Whether the fault shows only with other ops in flight; None if that was not tried."""

    @property
    def confirmed(self) -> bool:
        """Whether a run with the op was wrong, and the runs without it were clean."""
        return self.shown > 0 and self.clean > 0


def confirm(
    runner: Runner,
    position: int,
    *,
    order: Order,
    tries: int,
    watched: bool,
    attempt: int,
    say: Callable[[str], None],
) -> Culprit:
    """Run the prefix without the op at ``position``, then with it; return the evidence.

    Each prefix runs ``options.runs`` times, and more often if the fault does not show in every run:
    the prefix without the op is clean after ``tries`` clean runs. An op that was not ``watched``
    doing the damage, and that had other ops in flight, may have been found by chance, so its prefix
    needs TRIES. ``attempt`` numbers the folders of the runs.
    """
    op, alone = _at(runner, position, order)
    say(f"confirming {op.describe()}")
    runs = runner.options.runs
    needed = max(tries if watched or alone else TRIES, runs)
    without = Run(f"before-{attempt}", order, position, purpose=Purpose.CONFIRM)
    before, clean = until_bad(runner, without, needed)
    if not before.clean:
        earlier = symptom_of(before, position)
        return Culprit(position, op, earlier=earlier, comes_and_goes=clean > 1)
    with_it = Run(f"after-{attempt}", order, position + 1, purpose=Purpose.CONFIRM)
    after: Outcome | None = None
    done = shown = 0
    while done < runs or (not shown and done < TRIES):
        outcome = runner.run(with_it)
        done += 1
        if not outcome.clean:
            shown += 1
            after = after or outcome
    symptom = symptom_of(after, position + 1) if after is not None else None
    return Culprit(position, op, shown=shown, runs=done, clean=clean, after=after, symptom=symptom)


def _at(runner: Runner, position: int, order: Order) -> tuple[Op, bool]:
    """Return the op at ``position``, and whether it is sent with no other op in flight."""
    steps = list(islice(schedule(runner.source.trace.ops()), position, position + 2))
    quiet = [is_quiet(step, place) for place, step in enumerate(steps, position)]
    return steps[0].op, order.depth == 1 or all(quiet)
