"""The changes of a trace in an order that leaves the right bytes.

In the order of submission the later op overwrites the earlier one. Where two were in flight
together, the disk may hold the earlier one's value: then a settle says so. So the winner's change
is repeated for that range, at the place of the op that decided.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from tracer.op import MUTATING, Op
from tracer.trace.records import Settle

T = TypeVar("T")


def changes(
    numbered: Iterable[tuple[T, Op]], settles: Iterable[Settle], before: int | None = None
) -> Iterator[tuple[T, Op, int, int]]:
    """Yield the ops that may change data, each with its number and the bytes ``[start, end)`` of
    its range for which it is repeated now.

    ``numbered`` are ops in the order of submission. Ends before op ``before``; what later reads
    decide about earlier ops counts.
    """
    due = sorted(settles, key=lambda settle: settle.seq)
    winners = {settle.winner for settle in due}
    known: dict[int, tuple[T, Op]] = {}
    at = 0

    def repeated(upto: int | None) -> Iterator[tuple[T, Op, int, int]]:
        nonlocal at
        while at < len(due) and (upto is None or due[at].seq <= upto):
            settle = due[at]
            at += 1
            if settle.winner in known:
                number, op = known[settle.winner]
                start = max(op.offset, settle.offset)
                end = min(op.end, settle.offset + settle.length)
                if start < end:
                    yield number, op, start, end

    for number, op in numbered:
        if before is not None and op.seq >= before:
            break
        if at < len(due):
            yield from repeated(op.seq)
        if op.kind in MUTATING:
            if op.seq in winners:
                known[op.seq] = number, op
            yield number, op, op.offset, op.end
    yield from repeated(None)


def last_writer(seqs: Sequence[int], settles: Iterable[Settle], start: int, end: int) -> int | None:
    """Return which of the ops ``seqs``, ascending, that changed any of the bytes ``[start, end)``
    did so last; None if there are none."""
    if not seqs:
        return None
    last, decided, known = seqs[-1], seqs[-1], set(seqs)
    for settle in settles:
        inside = settle.offset < end and start < settle.offset + settle.length
        if inside and settle.seq >= decided and settle.winner in known:
            last, decided = settle.winner, settle.seq
    return last
