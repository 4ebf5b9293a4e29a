"""When each op may start, so that order and concurrency are as recorded.

An op may start once every op that completed before its submission is done. Ops start in the order
of submission, and the number of completions before a submission never falls. So one number per op
is enough: ``after``, how many completions must come first.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tracer.op import Op, conflicting
from tracer.ranges import RangeSet
from tracer.trace.order import Recorded, with_completion_index


@dataclass(frozen=True, slots=True)
class Step:
    """An op, when it may start, and when it completed."""

    op: Op
    after: int
    """The op may start once the first ``after`` ops in the recorded order of completion are
    done."""
    completion_index: int
    """The op's own place in the recorded order of completion, from 0."""


def schedule(ops: Iterable[Op], recorded: Recorded = bytes) -> Iterator[Step]:
    """Yield steps in the order of submission, from ops in the order of completion (the order of a
    trace). Takes as much memory as ``tracer.trace.order.with_completion_index``."""
    completed: deque[int] = deque()
    done_before = 0

    def noted() -> Iterator[Op]:
        for op in ops:
            completed.append(op.completed)
            yield op

    for completion_index, op in with_completion_index(noted(), recorded):
        # Every op that completed before this op's submission has been read: ops come in the order
        # of completion, and this op completed later still.
        while completed and completed[0] < op.submitted:
            completed.popleft()
            done_before += 1
        yield Step(op, done_before, completion_index)


def is_quiet(step: Step, position: int) -> bool:
    """Whether nothing is in flight when the step at ``position`` in the schedule starts."""
    return step.after == position


def contested(ops: Iterable[Op], recorded: Recorded = bytes) -> RangeSet:
    """Return the bytes where ops conflicted that were in flight together. Arguments as
    ``schedule``."""
    found = RangeSet()
    in_flight: list[Step] = []
    for step in schedule(ops, recorded):
        in_flight = [one for one in in_flight if one.completion_index >= step.after]
        for other in conflicting(step.op, (one.op for one in in_flight)):
            found.add(max(step.op.offset, other.offset), min(step.op.end, other.end))
        in_flight.append(step)
    return found


class Gate:
    """Decides which steps may start, from the steps that are done."""

    def __init__(self) -> None:
        self._prefix = 0
        self._ahead: set[int] = set()

    def open(self, step: Step) -> bool:
        """Return whether every op that the step waits for is done."""
        return step.after <= self._prefix

    def done(self, step: Step) -> None:
        """Note that a step is done."""
        self._ahead.add(step.completion_index)
        while self._prefix in self._ahead:
            self._ahead.remove(self._prefix)
            self._prefix += 1
