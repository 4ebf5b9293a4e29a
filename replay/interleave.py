"""The order in which ops are sent: as recorded, or shuffled by a seed.

Ops that the guest had in flight together may reach the driver in any order, and the driver must
cope with each. If conflicts are held, conflicting ops keep their recorded order.
"""

import random
from collections.abc import Iterable, Iterator

from replay.schedule import Step
from tracer.op import conflicts

Numbered = tuple[int, Step]
"""A step and its position: its place in the order of submission, from 0."""


def interleave(
    steps: Iterable[Numbered], seed: int, depth: int, *, hold: bool
) -> Iterator[Numbered]:
    """Yield the steps in another legal order; seed 0 keeps the order.

    A step comes after every step that completed before it was submitted, and with ``hold`` after
    every earlier step that it conflicts with. Each choice is made among the next ``depth`` steps.
    """
    steps = iter(steps)
    if not seed:
        yield from steps
        return
    waiting: list[tuple[float, Numbered]] = []
    while True:
        for position, step in steps:
            # depends on seed and position alone: a prefix of the trace is sent in nearly the same
            # order as the whole trace
            priority = random.Random(f"{seed} {position}").random()
            waiting.append((priority, (position, step)))
            if len(waiting) == depth:
                break
        if not waiting:
            return
        chosen = min(_free(waiting, hold), key=lambda index: waiting[index][0])
        yield waiting.pop(chosen)[1]


def _free(waiting: list[tuple[float, Numbered]], hold: bool) -> Iterator[int]:
    """Yield the indexes of the steps that may come next: those that wait for no earlier step."""
    steps = [step for _, (_, step) in waiting]
    for index, step in enumerate(steps):
        if not any(
            earlier.completion_index < step.after or (hold and conflicts(earlier.op, step.op))
            for earlier in steps[:index]
        ):
            yield index


def seeds(given: int, runs: int) -> Iterator[int]:
    """Yield one seed per run: ``given`` in every run, unless it is 0.

    If it is 0, every other run keeps the recorded order, and the runs between them shuffle. Some
    faults need the recorded order, others need a different one.
    """
    for run in range(runs):
        yield given if given or run % 2 == 0 else run
