"""Restarts of the driver amid a run: where they come, and what they may lose."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

from replay.options import TIMEOUT
from replay.schedule import schedule
from tracer.candidates.durable import Change, broken_promises
from tracer.disk.device import Device
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.mirror.comparison import Comparison
from tracer.mirror.found import MAX_EVIDENCE
from tracer.mirror.scope import USUAL
from tracer.mirror.sweep import sweep
from tracer.op import MUTATING, Kind, Op
from tracer.ranges import RangeSet
from tracer.trace.data import TraceWithData
from tracer.trace.file import Trace


class Places:
    """Where a run restarts the driver: where the recording did, and after every ``every`` ops.

    Ask for positions in ascending order; the first ``first`` ops are not played.
    """

    def __init__(self, trace: Trace, every: int | None, first: int) -> None:
        self._seqs = sorted(restart.seq for restart in trace.restarts())
        self._every = every
        self._next = first + every if every else None
        self._first = first
        self._at = 0

    def due(self, position: int, op: Op) -> bool:
        """Whether the driver must be restarted before the op at this position, which is the next
        one."""
        if position <= self._first:
            self.passed(position, op)
            return False
        listed = self._at < len(self._seqs) and self._seqs[self._at] <= op.seq
        return listed or (self._next is not None and position >= self._next)

    def passed(self, position: int, op: Op) -> None:
        """The driver was restarted before the op at this position."""
        while self._at < len(self._seqs) and self._seqs[self._at] <= op.seq:
            self._at += 1
        if self._every and self._next is not None and position >= self._next:
            self._next = position + self._every


def changes(source: TraceWithData, upto: int | None, open_: frozenset[int]) -> Iterator[Change]:
    """Yield the changes of the trace's first ``upto`` ops, in the order of submission. Those at the
    positions ``open_`` are not durable. Raises TraceError."""
    steps = islice(schedule(source.trace.ops(), source.trace.recorded), upto)
    for position, step in enumerate(steps):
        op = step.op
        if op.kind in MUTATING and not op.reference_status:
            done = Op(op.seq, op.kind, op.flags, op.offset, op.length, digest=op.digest)
            yield Change(
                done, source.data(op), position not in open_,
                after=step.after, completion_index=step.completion_index,
            )  # fmt: skip


def take_over(
    loop: Loop,
    reference: FileDevice,
    test: Device,
    comparison: Comparison,
    where: RangeSet,
    done: Callable[[], Iterator[Change]],
    timeout: float = TIMEOUT,
) -> None:
    """Bring the reference in line with what a restart has lost of changes that were not durable.

    ``where`` is what these changed, ``done`` returns all changes. What the restart may not lose
    stays: it is damage. What the driver does not answer, the next op shows. Raises TraceError.
    """
    for part in _parts(where):
        found = sweep(
            loop, reference, test, comparison,
            scope=replace(USUAL, only=part), label="comparing after a restart", timeout=timeout,
        )  # fmt: skip
        if not found.damage:
            continue
        broken = {
            one.offset for one in broken_promises(found.evidence, done(), comparison.trim_rule)
        }
        for piece in found.evidence:
            if piece.offset not in broken:
                reference.execute(int(Kind.WRITE), 0, piece.offset, len(piece.actual), piece.actual)


def _parts(where: RangeSet) -> Iterator[RangeSet]:
    """Cut ranges into sets of at most MAX_EVIDENCE bytes: of that much, a comparison keeps what it
    has found."""
    part, room = RangeSet(), MAX_EVIDENCE
    for start, end in where:
        while start < end:
            stop = min(end, start + room)
            part.add(start, stop)
            room -= stop - start
            start = stop
            if not room:
                yield part
                part, room = RangeSet(), MAX_EVIDENCE
    if part:
        yield part
