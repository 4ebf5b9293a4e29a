"""Which op may start when: order and concurrency as they were recorded.

An op starts when all those that completed before it was submitted are done. Ops are started in the
order of their submission, and the number of ops that completed before a submission only grows with
it, so one number per op says it all: ``after``, how many completions must precede it.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tracer.op import Op
from tracer.trace.order import with_completion_index


@dataclass(frozen=True, slots=True)
class Step:
    """An op, when it may start, and when it was done."""

    op: Op
    after: int
    """It may start once the first ``after`` ops in the recorded order of completion are done."""
    completion_index: int
    """Its own place in that order, from 0."""


def schedule(ops: Iterable[Op]) -> Iterator[Step]:
    """Steps in the order of submission, for ops in the order of completion (a trace's order). Takes
    memory as ``tracer.source.with_completion_index`` does."""
    completed: deque[int] = deque()
    done_before = 0

    def noted() -> Iterator[Op]:
        for op in ops:
            completed.append(op.completed)
            yield op

    for completion_index, op in with_completion_index(noted()):
        # every op that completed before this one was submitted has been read: its own completion is
        # later still, and completions are in order
        while completed and completed[0] < op.submitted:
            completed.popleft()
            done_before += 1
        yield Step(op, done_before, completion_index)


def is_quiet(step: Step, position: int) -> bool:
    """Whether nothing is in flight when the step at ``position`` in the schedule starts."""
    return step.after == position


class Gate:
    """Tells which steps may start, given which are done."""

    def __init__(self) -> None:
        self._prefix = 0
        self._ahead: set[int] = set()

    def open(self, step: Step) -> bool:
        """Whether all that the step must wait for is done."""
        return step.after <= self._prefix

    def done(self, step: Step) -> None:
        """Say that a step is done."""
        self._ahead.add(step.completion_index)
        while self._prefix in self._ahead:
            self._ahead.remove(self._prefix)
            self._prefix += 1
