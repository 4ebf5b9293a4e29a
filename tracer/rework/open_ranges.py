"""The ranges of the disk that may hold more than one value at a moment of a trace."""

import heapq

from tracer.candidates.candidates import Candidates
from tracer.candidates.value import BEFORE, FOREVER, Value
from tracer.op import MUTATING, Conflicts, Kind, Op, TrimRule, conflicting
from tracer.ranges import RangeSet
from tracer.trace.file import Trace
from tracer.trace.order import by_seq


def open_ranges(trace: Trace, before: int) -> RangeSet:
    """Return the bytes that ops before op ``before`` left open: several of them changed these in
    flight together, and no read has settled them. Raises TraceError."""
    if trace.header.conflicts is Conflicts.HELD:
        return RangeSet()
    contested = _Contested(trace.header.trim)
    for op in by_seq(trace.ops(), trace.recorded):
        if op.seq >= before:
            break
        if op.kind in MUTATING and not op.refused:
            contested.submitted(op)
    left = contested.at_the_end()
    for settle in trace.settles():
        if settle.winner < before:
            left.remove(settle.offset, settle.offset + settle.length)
    return left


class _Contested:
    """Plays the submissions and completions of a trace's changes."""

    def __init__(self, rule: TrimRule) -> None:
        self._rule = rule
        self._event = BEFORE
        self._candidates = Candidates()
        self._in_flight: dict[int, tuple[Op, Value]] = {}
        self._completions: list[tuple[int, int]] = []
        self._trimmed = RangeSet()
        """Where a trim, after which the disk may hold anything, conflicted with another change."""

    def submitted(self, op: Op) -> None:
        """The next op is submitted. What completed before is done."""
        self._complete(op.submitted)
        self._event += 1
        value = Value.of(op, None, self._event, self._rule)
        self._trimmed.remove(op.offset, op.end)
        for other in conflicting(op, (one for one, _ in self._in_flight.values())):
            start, end = max(op.offset, other.offset), min(op.end, other.end)
            if self._rule is TrimRule.ANY and (op.kind == Kind.TRIM) != (other.kind == Kind.TRIM):
                self._trimmed.add(start, end)
            self._candidates.track(start, end, [self._in_flight[other.seq][1]])
        self._candidates.submitted(value, op.offset, op.end)
        self._in_flight[op.seq] = op, value
        heapq.heappush(self._completions, (op.completed, op.seq))

    def at_the_end(self) -> RangeSet:
        """Let all ops complete. Return what is open then."""
        self._complete(None)
        left = self._trimmed.copy()
        for start, end in self._candidates.unsettled():
            left.add(start, end)
        return left

    def _complete(self, before: int | None) -> None:
        while self._completions and (before is None or self._completions[0][0] < before):
            _, seq = heapq.heappop(self._completions)
            op, value = self._in_flight.pop(seq)
            self._event += 1
            if op.test_status or op.reference_status:
                value.fail()
            self._candidates.completed(value, op.offset, op.end, self._event)
            self._candidates.decided(op.offset, op.end, FOREVER - 1)
