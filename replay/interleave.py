"""Orders in which ops that were in flight together may be sent: as recorded, or by a seed.

When recorded, the guest had these ops in flight together, so it did not care for their order, and a
driver must not either. Only ops that overlap, where either changes data, keep theirs.
"""

import random
from collections.abc import Iterable, Iterator

from replay.schedule import Step
from tracer.op import conflicts

Numbered = tuple[int, Step]
"""A step and its position: ops counted in the order of submission, from 0."""


def interleave(steps: Iterable[Numbered], seed: int, depth: int) -> Iterator[Numbered]:
    """Steps in another legal order: each after all steps that had completed when it was submitted,
    and after earlier steps that it conflicts with. Seed 0 changes nothing. ``depth`` is how many
    steps are looked at together."""
    steps = iter(steps)
    if not seed:
        yield from steps
        return
    waiting: list[tuple[float, Numbered]] = []
    while True:
        for position, step in steps:
            # depends on nothing else, so that a prefix of the trace is sent much as the whole is
            priority = random.Random(f"{seed} {position}").random()
            waiting.append((priority, (position, step)))
            if len(waiting) == depth:
                break
        if not waiting:
            return
        chosen = min(_free(waiting), key=lambda index: waiting[index][0])
        yield waiting.pop(chosen)[1]


def _free(waiting: list[tuple[float, Numbered]]) -> Iterator[int]:
    """Which may come next: those that need not wait for one before them."""
    steps = [step for _, (_, step) in waiting]
    for index, step in enumerate(steps):
        if not any(
            earlier.completion_index < step.after or conflicts(earlier.op, step.op)
            for earlier in steps[:index]
        ):
            yield index


def seeds(given: int, runs: int) -> Iterator[int]:
    """The seeds of repeated runs: always the given seed if it is not 0. Else the recorded order in
    every other run, since some faults need that order and some another."""
    for run in range(runs):
        yield given if given or run % 2 == 0 else run
