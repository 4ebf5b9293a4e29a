"""Which bytes of two sides differ, and which may.

Trimmed bytes may read as anything until they are rewritten (NBD spec, NBD_CMD_TRIM), and nobody knows
what a failed write left behind. Both are tracked here and are not reported as damage.
"""

from collections.abc import Iterator

from tracer.op import SECTOR, Op, Promise, TrimRule, effect
from tracer.ranges import RangeSet


class Comparison:
    """Compares bytes of the reference with the test side's, mindful of what is undefined.

    With the rule "old-or-zero" the reference must keep what was trimmed.
    """

    def __init__(self, trim_rule: TrimRule = TrimRule.ANY) -> None:
        self.trim_rule = trim_rule
        self.trimmed = RangeSet()
        self.unknown = RangeSet()

    def copy(self) -> "Comparison":
        """An independent copy."""
        twin = Comparison(self.trim_rule)
        twin.trimmed, twin.unknown = self.trimmed.copy(), self.unknown.copy()
        return twin

    def done(self, op: Op) -> None:
        """Take note of an op that both sides are done with."""
        promise = effect(op, self.trim_rule).promise
        if promise is Promise.EQUAL:
            if self.trimmed:
                self.trimmed.remove(op.offset, op.end)
            if self.unknown:
                self.unknown.remove(op.offset, op.end)
        elif promise is Promise.TRIMMED:
            self.trimmed.add(op.offset, op.end)
        elif promise is Promise.UNKNOWN:
            self.unknown.add(op.offset, op.end)

    def defined(self, start: int, end: int) -> bool:
        """Whether every byte of ``[start, end)`` has one right value."""
        return not (self.trimmed.overlaps(start, end) or self.unknown.overlaps(start, end))

    def undefined(self, start: int, end: int) -> RangeSet:
        """The parts of ``[start, end)`` that have no one right value."""
        parts = RangeSet(self.trimmed.within(start, end))
        for first, last in self.unknown.within(start, end):
            parts.add(first, last)
        return parts

    def differences(
        self, expected: bytes | bytearray, actual: bytes | bytearray, offset: int
    ) -> RangeSet:
        """The bytes, as ranges on the disk, that differ and should not: whole sectors, but for the
        ends of ``[offset, offset + len(expected))``."""
        found = RangeSet()
        if expected == actual:
            return found
        for start, end in _sectors(offset, offset + len(expected)):
            good, bad = (
                expected[start - offset : end - offset],
                actual[start - offset : end - offset],
            )
            if good != bad and not self._excused(start, end, good, bad):
                found.add(start, end)
        return found

    def _excused(
        self, start: int, end: int, good: bytes | bytearray, bad: bytes | bytearray
    ) -> bool:
        for first, last in self.unknown.outside(start, end):
            for a, b in self.trimmed.outside(first, last):
                if good[a - start : b - start] != bad[a - start : b - start]:
                    return False
            if self.trim_rule == TrimRule.ANY:
                continue
            for a, b in self.trimmed.within(first, last):
                # byte by byte: one range here may be several trims that met different fates
                pairs = zip(good[a - start : b - start], bad[a - start : b - start], strict=True)
                if any(new not in (old, 0) for old, new in pairs):
                    return False
        return True


def _sectors(start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        yield start, stop
        start = stop
