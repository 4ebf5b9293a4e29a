"""What a reopened image may hold.

A change is durable once a flush has succeeded that was sent after the change had completed, or if
it had FUA ("Ordering of messages and writes" in doc/proto.md of
https://github.com/NetworkBlockDevice/nbd). A restart may lose all other changes. So each byte of a
reopened image holds its last durable value, or any later one.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from tracer.mirror.evidence import Evidence
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
    """An op that succeeded, what it wrote, and whether a restart must keep that."""

    op: Op
    data: Buffer | None
    durable: bool


def broken_promises(
    pieces: Iterable[Evidence], changes: Iterable[Change], rule: TrimRule
) -> list[Evidence]:
    """Return those ``pieces`` of a reopened image that hold a byte they may not hold.

    ``changes`` are all ops since the disk read as zeroes, in the order in which they took effect.
    """
    judged = [_Judged(piece) for piece in sorted(pieces, key=lambda piece: piece.offset)]
    starts = [one.piece.offset for one in judged]
    for change in changes:
        index = max(0, bisect_right(starts, change.op.offset) - 1)
        while index < len(judged) and starts[index] < change.op.end:
            judged[index].add(change, rule)
            index += 1
    return [one.piece for one in judged if not all(one.right)]


class _Judged:
    """A piece of the image, and which of its bytes have a value that they may have."""

    def __init__(self, piece: Evidence) -> None:
        self.piece = piece
        self.right = bytearray(byte == 0 for byte in piece.actual)  # a new disk reads as zeroes

    def add(self, change: Change, rule: TrimRule) -> None:
        op, piece = change.op, self.piece
        start, end = max(op.offset, piece.offset), min(op.end, piece.end)
        if start >= end:
            return
        done = effect(op, rule)
        place = slice(start - piece.offset, end - piece.offset)
        if done.promise is Promise.TRIMMED:
            anything = rule is TrimRule.ANY
            for index in range(place.start, place.stop):
                self.right[index] |= anything or piece.actual[index] == 0
        elif done.promise is Promise.EQUAL:
            value = bytes(end - start)
            if done.leaves is Leaves.DATA:
                assert change.data is not None
                value = bytes(change.data[start - op.offset : end - op.offset])
            equal = bytearray(a == b for a, b in zip(value, piece.actual[place], strict=True))
            if not change.durable:
                equal = bytearray(a | b for a, b in zip(equal, self.right[place], strict=True))
            self.right[place] = equal
