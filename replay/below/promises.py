"""What the guest was promised when: the changes of a run, and which of them were durable when.

A moment is a number of lower ops: the power is cut when the first ``moment`` lower ops were issued.
A change counts as submitted at a moment if it may have been, and as durable if it must have been.
The rule itself is ``tracer.candidates.durable``.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from tracer.below.events import Done, Event, Sent
from tracer.below.op import LowerOp
from tracer.candidates.durable import Change, Unflushed
from tracer.op import MUTATING, NO_TIME, Buffer, Flag, Kind, Op
from tracer.trace.data import TraceWithData
from tracer.trace.order import by_seq

NEVER = 1 << 62
"""The moment of what did not happen: later than all others."""

BUCKET = 1 << 16
"""Bytes of the disk whose changes are found together."""


@dataclass(frozen=True, slots=True)
class Promised:
    """A change of the guest's. ``sent`` and ``done`` are moments. From the moment ``durable`` on,
    what it wrote must survive, as ``promise`` says: a flush, or the op itself."""

    op: Op
    sent: int
    done: int
    after: int
    completion_index: int
    durable: int = NEVER
    promise: Op | None = None

    def change(self, data: Buffer | None, moment: int) -> Change:
        """Return the change as it stands at a moment."""
        return Change(self.op, data, self.durable <= moment, self.after, self.completion_index)


class Promises:
    """All changes of a run, in the order of submission.

    ``through`` says that each op is durable once it is done. The first ``start_ops`` ops of the
    trace were on the disk before the run. Raises TraceError.
    """

    def __init__(
        self, source: TraceWithData, events: Iterable[Event], *, through: bool, start_ops: int
    ) -> None:
        self.ops = {op.seq: op for op in by_seq(source.trace.ops(), source.trace.recorded)}
        self._source = source
        before = list(self.ops.values())[:start_ops]
        self.changes = [
            Promised(_plain(op), 0, 0, number, number, 0, op) for number, op in enumerate(before)
        ]
        self._sent: list[int] = []
        """The moments at which ops were sent."""
        self.flushed: list[int] = []
        """The moments at which a flush, or an op with FUA, was done."""
        self._follow(events, through)
        self._buckets: dict[int, list[int]] = {}
        for number, change in enumerate(self.changes):
            for bucket in range(change.op.offset // BUCKET, -(-change.op.end // BUCKET)):
                self._buckets.setdefault(bucket, []).append(number)

    def data(self, change: Promised) -> Buffer | None:
        """Return what a change wrote. Raises TraceError."""
        return self._source.data(self.ops[change.op.seq])

    def over(self, start: int, end: int, moment: int) -> Iterator[Promised]:
        """Yield the changes in ``[start, end)`` that may have been submitted at a moment, in the
        order of submission."""
        numbers: set[int] = set()
        for bucket in range(start // BUCKET, -(-end // BUCKET)):
            numbers.update(self._buckets.get(bucket, ()))
        for number in sorted(numbers):
            change = self.changes[number]
            if change.sent <= moment and change.op.offset < end and start < change.op.end:
                yield change

    def sent(self, moment: int) -> int:
        """Return how many ops of the run were sent by a moment."""
        return bisect_right(self._sent, moment)

    def in_flight(self, moment: int) -> list[int]:
        """Return the seqs of the changes that were sent and not done at a moment."""
        return [change.op.seq for change in self.changes if change.sent <= moment < change.done]

    def _follow(self, events: Iterable[Event], through: bool) -> None:
        """Go through a run. Raises TraceError."""
        place: dict[int, int] = {}  # by seq: where the change is in the list
        unflushed = Unflushed()
        covered: dict[int, int] = {}  # flushes in flight
        moment = 0
        completed = len(self.changes)
        for event in events:
            if isinstance(event, LowerOp):
                moment = event.number + 1
                continue
            op = self.ops[event.seq]
            if isinstance(event, Sent):
                self._sent.append(moment)
                if op.kind in MUTATING:
                    place[op.seq] = len(self.changes)
                    self.changes.append(Promised(_plain(op), moment, NEVER, completed, NEVER))
                elif op.kind == Kind.FLUSH:
                    unflushed.flush_sent(op.seq)
                    covered[op.seq] = moment
                continue
            self._done(op, event, moment, completed, place, unflushed, through)
            completed += op.kind in MUTATING

    def _done(
        self, op: Op, event: Done, moment: int, completed: int, place: dict[int, int],
        unflushed: Unflushed, through: bool,
    ) -> None:  # fmt: skip
        if op.kind == Kind.FLUSH:
            before = unflushed.numbers()
            unflushed.flush_done(op.seq, not event.error)
            for number in before - unflushed.numbers():
                self.changes[number] = replace(self.changes[number], durable=moment, promise=op)
            self.flushed.append(moment)
        elif op.kind in MUTATING:
            number = place[op.seq]
            change = replace(self.changes[number], done=moment, completion_index=completed)
            if event.error:  # it may have done a part of its work: never promised
                pass
            elif through or op.flags & Flag.FUA:
                change = replace(change, durable=moment, promise=op)
                self.flushed.append(moment)
            else:
                unflushed.changed(number)
            self.changes[number] = change


def _plain(op: Op) -> Op:
    """Return an op as if it had just succeeded on both sides."""
    return Op(op.seq, op.kind, op.flags, op.offset, op.length, completed=NO_TIME, digest=op.digest)
