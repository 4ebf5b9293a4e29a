"""Compare bytes of the two sides, except bytes that may differ.

Trimmed bytes may read as anything until they are rewritten (NBD_CMD_TRIM in proto.md). The bytes of
a failed write are unknown. This module tracks both, so that they are not reported as damage, and
where ops came to, so that a comparison of the images can look there.
"""

from collections.abc import Iterable

from tracer.mirror.touched import Touched
from tracer.op import Op, Promise, TrimRule, effect
from tracer.ranges import RangeSet, in_sectors


class Comparison:
    """Compares the reference's bytes with the test side's, and knows which bytes are undefined.

    With the trim rule "old-or-zero", the reference must keep the old bytes of a trimmed range.
    """

    def __init__(self, trim_rule: TrimRule = TrimRule.ANY) -> None:
        self.trim_rule = trim_rule
        self.trimmed = RangeSet()
        """Bytes that were trimmed and not rewritten."""
        self.unknown = RangeSet()
        """Bytes that a failed op may have changed and that were not rewritten."""
        self.touched = Touched()
        """Where ops that may change data came to."""

    def copy(self) -> "Comparison":
        """Return an independent copy."""
        twin = Comparison(self.trim_rule)
        twin.trimmed, twin.unknown = self.trimmed.copy(), self.unknown.copy()
        twin.touched = self.touched.copy()
        return twin

    def done(self, op: Op, parts: Iterable[tuple[int, int]] | None = None) -> None:
        """Note an op that is done on both sides. ``parts``: note what it promises only for these
        parts of its range."""
        promise = effect(op, self.trim_rule).promise
        if promise is not Promise.KEPT:
            self.touched.note(op)
        if parts is None:
            self.promise(promise, op.offset, op.end)
            return
        for start, end in parts:
            self.promise(promise, start, end)

    def promise(self, promise: Promise, start: int, end: int) -> None:
        """Note what the bytes ``[start, end)`` may hold from now on."""
        if promise is Promise.EQUAL:
            if self.trimmed:
                self.trimmed.remove(start, end)
            if self.unknown:
                self.unknown.remove(start, end)
        elif promise is Promise.TRIMMED:
            self.trimmed.add(start, end)
        elif promise is Promise.UNKNOWN:
            self.unknown.add(start, end)

    def defined(self, start: int, end: int) -> bool:
        """Whether every byte of ``[start, end)`` has one right value."""
        return not (self.trimmed.overlaps(start, end) or self.unknown.overlaps(start, end))

    def undefined(self, start: int, end: int) -> RangeSet:
        """Return the parts of ``[start, end)`` that have more than one right value."""
        parts = RangeSet(self.trimmed.within(start, end))
        for first, last in self.unknown.within(start, end):
            parts.add(first, last)
        return parts

    def differences(
        self, expected: bytes | bytearray, actual: bytes | bytearray, offset: int
    ) -> RangeSet:
        """Return the ranges on the disk, in bytes, that differ and must not.

        ``offset`` is the place of both buffers on the disk. The ranges are whole sectors, cut at
        the ends of the buffers.
        """
        found = RangeSet()
        if expected == actual:
            return found
        for start, end in in_sectors(offset, offset + len(expected)):
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
        """Whether ``[start, end)`` differs only in undefined bytes, as the trim rule allows."""
        for first, last in self.unknown.outside(start, end):
            for a, b in self.trimmed.outside(first, last):
                if good[a - start : b - start] != bad[a - start : b - start]:
                    return False
            if self.trim_rule == TrimRule.ANY:
                continue
            for a, b in self.trimmed.within(first, last):
                # byte by byte: the range may join several trims with different results
                pairs = zip(good[a - start : b - start], bad[a - start : b - start], strict=True)
                if any(new not in (old, 0) for old, new in pairs):
                    return False
        return True
