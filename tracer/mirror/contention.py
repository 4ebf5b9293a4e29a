"""The mirror's part in conflicts: what the test side may hold where conflicting ops are in flight
together, and what the reference takes over once that is decided.

The reference keeps the old bytes of such a range until then. docs/finding-culprits.md explains the
rules; tracer/candidates/ has them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tracer.candidates.candidates import Candidates, Seen, Wrong
from tracer.candidates.segment import NOT_DECIDED, Outcome
from tracer.candidates.value import Holds, Value
from tracer.disk.file import FileDevice
from tracer.mirror.comparison import Comparison
from tracer.mirror.flight import Flight
from tracer.op import MUTATING, NO_SEQ, Kind, Op, Promise
from tracer.ranges import RangeSet


@dataclass(frozen=True, slots=True)
class Settled:
    """A read has decided what the bytes ``[start, end)`` hold: the value of op ``winner``.

    ``decided`` is the read's seq.
    """

    start: int
    end: int
    winner: int
    decided: int
    data: bytes


class Contention:
    """Keeps the candidates of one mirror. ``settled`` gets each decision of a read. ``failed`` gets
    each op that the reference could not take, and the errno."""

    def __init__(
        self,
        reference: FileDevice,
        comparison: Comparison,
        settled: Callable[[Settled], None],
        failed: Callable[[Op, int], None],
    ) -> None:
        self._reference = reference
        self._comparison = comparison
        self._settled = settled
        self._failed = failed
        self._values: dict[int, Value] = {}  # by seq, of the changes in flight that are contested
        self.candidates = Candidates()

    def conflict(self, flight: Flight, earlier: Flight) -> None:
        """A new flight conflicts with an earlier one that is in flight."""
        start = max(flight.op.offset, earlier.op.offset)
        end = min(flight.op.end, earlier.op.end)
        changes = [self._value(earlier)] if earlier.op.kind in MUTATING else []
        earlier.contested = flight.contested = True
        self.candidates.track(start, end, changes)

    def enter(self, flight: Flight) -> None:
        """A flight is submitted, and its conflicts are known. It may also meet a range whose value
        an earlier conflict has left open."""
        op = flight.op
        if not flight.contested and not self.candidates.overlaps(op.offset, op.end):
            return
        flight.contested = True
        if op.kind in MUTATING:
            self.candidates.submitted(self._value(flight), op.offset, op.end)

    def changed(self, flight: Flight, event: int) -> list[tuple[int, int]]:
        """A contested flight that may change data is done on the test side. Return the parts of its
        range that are not contested."""
        op, value = flight.op, self._value(flight)
        del self._values[op.seq]
        if op.refused:
            self.candidates.cancelled(value, op.offset, op.end)
        else:
            if op.test_status or op.reference_status:
                value.fail()
            self.candidates.completed(value, op.offset, op.end, event)
        return list(self.candidates.outside(op.offset, op.end))

    def read(self, flight: Flight, event: int) -> list[Wrong]:
        """A contested read is done. ``flight.data`` becomes what the guest gets: the test side's
        bytes where several values are allowed. Return what is wrong there."""
        op, actual = flight.op, flight.test_data
        assert actual is not None
        base = self._reference.read(op.offset, op.length)
        got = bytearray(base)
        at = op.offset
        for start, end in self.inside(at, op.end):
            got[start - at : end - at] = actual[start - at : end - at]
        flight.data = got
        seen = Seen(at, actual, base, flight.since, op.seq, self._excused)
        return self.candidates.observed(seen, event)

    def seen(self, start: int, data: bytes, since: int, event: int) -> list[Wrong]:
        """A read of our own that is no op has returned ``data``. Return what is wrong in contested
        ranges, without learning from it."""
        base = self._reference.read(start, len(data))
        seen = Seen(start, data, base, since, NO_SEQ, self._excused)
        return self.candidates.observed(seen, event, learn=False)

    def decide(self, start: int, end: int, oldest: int) -> None:
        """Bring the reference in line where one value is left in ``[start, end)``.

        ``oldest`` is the event of the oldest submission of an op in flight.
        """
        for outcome in self.candidates.decided(start, end, oldest):
            self._apply(outcome)

    def give_up(self) -> None:
        """Take whatever is still open for unknown: reads cannot tell it."""
        for outcome in self.candidates.abandoned():
            self._apply(outcome)

    def unsettled(self) -> RangeSet:
        """Return the ranges whose value only a read can tell."""
        return RangeSet(self.candidates.unsettled())

    def _value(self, flight: Flight) -> Value:
        op = flight.op
        value = self._values.get(op.seq)
        if value is None:
            value = Value.of(op, flight.data, flight.since, self._comparison.trim_rule)
            self._values[op.seq] = value
        return value

    def inside(self, start: int, end: int) -> RangeSet:
        """Return the contested parts of ``[start, end)``."""
        return RangeSet(self.candidates.inside(start, end))

    def _excused(self, start: int, expected: bytes, actual: bytes) -> bool:
        return not self._comparison.differences(expected, actual, start)

    def _apply(self, outcome: Outcome) -> None:
        """The reference takes over what a range holds."""
        start, end, value = outcome.start, outcome.end, outcome.value
        if value is None:
            if outcome.failed:
                self._comparison.promise(Promise.UNKNOWN, start, end)
                return
            self._write(start, end, None)
        elif value.holds is not Holds.BASE:
            self._write(start, end, value)
            self._comparison.promise(Promise.EQUAL, start, end)
        if outcome.trimmed:
            self._comparison.promise(Promise.TRIMMED, start, end)
        if outcome.decided != NOT_DECIDED and value is not None:
            data = self._reference.read(start, end - start)
            self._settled(Settled(start, end, value.seq, outcome.decided, data))

    def _write(self, start: int, end: int, value: Value | None) -> None:
        """Write a value, or zeroes, to the reference."""
        kind, data = Kind.TRIM, None
        if value is not None and value.data is not None:
            kind, data = Kind.WRITE, value.bytes(start, end)
        error, _, _ = self._reference.execute(int(kind), 0, start, end - start, data)
        if error:
            seq = value.seq if value is not None else 0
            self._failed(Op(seq, int(kind), 0, start, end - start), error)
