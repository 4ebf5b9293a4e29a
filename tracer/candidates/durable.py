"""What a reopened image may hold.

A change is durable once a flush has succeeded that was sent after the change had completed, or if
it had FUA ("Ordering of messages and writes" in doc/proto.md of
https://github.com/NetworkBlockDevice/nbd). A restart may lose all other changes. So each byte of a
reopened image holds its last durable value, or any later one. Of ops in flight together, each may
be the last.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from tracer.candidates.evidence import Evidence
from tracer.op import Buffer, Leaves, Op, Promise, TrimRule, effect


class Unflushed:
    """The changes that a restart may lose. A change is a number: the op's place in the trace."""

    def __init__(self) -> None:
        self._changes = array("q")  # in the order of completion
        self._dropped = 0
        self._flushes: dict[int, int] = {}  # in flight: how many changes were complete before it

    def __bool__(self) -> bool:
        return bool(self._changes)

    def numbers(self) -> frozenset[int]:
        """Return the changes that are not durable."""
        return frozenset(self._changes)

    def changed(self, number: int) -> None:
        """Note that a change without FUA has completed."""
        self._changes.append(number)

    def flush_sent(self, number: int) -> None:
        """Note that flush ``number`` is sent: it covers what has completed by now."""
        self._flushes[number] = self._dropped + len(self._changes)

    def flush_done(self, number: int, success: bool) -> None:
        """Note that a flush has completed."""
        covered = self._flushes.pop(number) - self._dropped
        if success and covered > 0:  # a later flush may have covered more already
            del self._changes[:covered]
            self._dropped += covered


@dataclass(frozen=True, slots=True)
class Change:
    """An op that succeeded, what it wrote, and whether a restart must keep that.

    Changes with a ``completion_index`` below ``after`` had completed before it was submitted. All
    others were in flight with it, or came later.
    """

    op: Op
    data: Buffer | None
    durable: bool
    after: int
    completion_index: int


def broken_promises(
    pieces: Iterable[Evidence], changes: Iterable[Change], rule: TrimRule
) -> list[Evidence]:
    """Return those ``pieces`` of a reopened image that hold a byte they may not hold.

    ``changes`` are all ops since the disk read as zeroes, in the order of submission.
    """
    judged = [_Judged(piece) for piece in sorted(pieces, key=lambda piece: piece.offset)]
    starts = [one.piece.offset for one in judged]
    for change in changes:
        index = max(0, bisect_right(starts, change.op.offset) - 1)
        while index < len(judged) and starts[index] < change.op.end:
            judged[index].add(change, rule)
            index += 1
    return [one.piece for one in judged if not one.is_right()]


class _Judged:
    """A piece of the image, and which of its bytes have a value that they may have."""

    def __init__(self, piece: Evidence) -> None:
        self.piece = piece
        self._right = bytearray(
            _equal(bytes(len(piece.actual)), piece.actual)
        )  # a new disk: zeroes
        # what changes allow that had not completed when the last one was submitted: completion
        # index, place in the piece, and which of its bytes are as the change left them
        self._open: list[tuple[int, slice, bytes]] = []

    def add(self, change: Change, rule: TrimRule) -> None:
        op, piece = change.op, self.piece
        start, end = max(op.offset, piece.offset), min(op.end, piece.end)
        done = effect(op, rule)
        if start >= end or done.promise not in (Promise.TRIMMED, Promise.EQUAL):
            return
        self._close(change.after)
        place = slice(start - piece.offset, end - piece.offset)
        if done.promise is Promise.TRIMMED:
            anything = rule is TrimRule.ANY
            size = end - start
            equal = b"\1" * size if anything else _equal(bytes(size), piece.actual[place])
        else:
            value = bytes(end - start)
            if done.leaves is Leaves.DATA:
                assert change.data is not None
                value = bytes(change.data[start - op.offset : end - op.offset])
            equal = _equal(value, piece.actual[place])
            if change.durable:  # it has overwritten what had completed before it was submitted
                self._right[place] = bytes(end - start)
        self._open.append((change.completion_index, place, equal))

    def is_right(self) -> bool:
        """Whether each byte has a value that it may have."""
        self._close(None)
        return 0 not in self._right

    def _close(self, before: int | None) -> None:
        """Join what the changes allow whose completion index is below ``before``, or all."""
        still = []
        for index, place, equal in self._open:
            if before is not None and index >= before:
                still.append((index, place, equal))
                continue
            self._right[place] = _either(equal, self._right[place])
        self._open = still


# As whole numbers, bytes are compared a hundred times as fast as one by one.

_IS_ZERO = bytes([1, *bytes(255)])


def _equal(one: bytes, other: bytes) -> bytes:
    """Return a 1 for each byte that is the same in both, otherwise a 0."""
    if one == other:
        return b"\1" * len(one)
    differ = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
    return differ.to_bytes(len(one), "little").translate(_IS_ZERO)


def _either(one: bytes, other: bytes | bytearray) -> bytes:
    """Return a 1 for each byte that is 1 in one of the two."""
    joined = int.from_bytes(one, "little") | int.from_bytes(other, "little")
    return joined.to_bytes(len(one), "little")
