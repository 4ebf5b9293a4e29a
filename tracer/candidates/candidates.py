"""The ranges of a disk that may hold more than one value, because conflicting ops are in flight
together, and what ops show about them.

Events are submissions and completions of ops, counted from 1 by the caller. In each range a value
stays possible until an op overwrites it that was submitted after it had taken effect. A read tells
more: what it returns is in effect at some moment of the read. Between values that only reads tell
apart, a byte range may hold any of them, sector by sector. While ops that change it are in flight,
a read may even find them mixed, byte by byte.

    candidates.track(start, end, [value of the op in flight])    # two ops conflict there
    candidates.submitted(value, start, end)                      # the later one, if it changes data
    candidates.completed(value, start, end, event)
    candidates.observed(seen, event)                             # a read is done
    candidates.decided(start, end, oldest)                       # which ranges have one value again
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tracer.candidates.segment import Entry, Outcome, Segment, base_entry
from tracer.candidates.value import Holds, Value
from tracer.op import NO_SEQ
from tracer.ranges import in_sectors

COPY_BELOW = 2
"""A part of a payload is copied, so that the rest can be freed, if it is less than one in so many
of its bytes."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a read returned: ``got``, from byte ``offset`` of the disk.

    ``base`` is what the reference holds there. ``excused(start, expected, actual)`` says whether
    the reference's bytes may read otherwise (a trimmed range). ``since`` is the event of the read's
    submission, ``seq`` its number.
    """

    offset: int
    got: bytes | bytearray | memoryview
    base: bytes | bytearray
    since: int
    seq: int
    excused: Callable[[int, bytes, bytes], bool] = lambda start, expected, actual: False


@dataclass(frozen=True, slots=True)
class Wrong:
    """Bytes that no order of events allows, from byte ``start`` on, and one value that is
    allowed."""

    start: int
    expected: bytes
    actual: bytes


class Candidates:
    """The segments with more than one value, disjoint and in the order of the disk."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._segments: list[Segment] = []
        self.bytes = 0
        """The bytes of all segments."""

    def __bool__(self) -> bool:
        return bool(self._segments)

    def overlaps(self, start: int, end: int) -> bool:
        """Whether any byte of ``[start, end)`` is in a segment."""
        return next(self._within(start, end), None) is not None

    def outside(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of ``[start, end)`` that are in no segment."""
        for segment in self._within(start, end):
            if start < segment.start:
                yield start, segment.start
            start = segment.end
        if start < end:
            yield start, end

    def inside(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of ``[start, end)`` that are in segments."""
        for segment in self._within(start, end):
            yield max(start, segment.start), min(end, segment.end)

    def unsettled(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges whose value only a read can tell: nothing that changes them is in
        flight."""
        for segment in self._segments:
            if segment.is_quiet:
                yield segment.start, segment.end

    def track(self, start: int, end: int, changes: list[Value]) -> None:
        """Two ops conflict in ``[start, end)``. ``changes`` has the value of the earlier one, which
        is in flight, if it changes data."""
        for first, last in list(self.outside(start, end)):
            entries = [base_entry(NO_SEQ), *(Entry(value) for value in changes)]
            self._insert(Segment(first, last, entries))
            self.bytes += last - first

    def submitted(self, value: Value, start: int, end: int) -> None:
        """An op that changes ``[start, end)`` is submitted. Parts that are in no segment conflict
        with nothing."""
        self._cut(start)
        self._cut(end)
        for segment in self._within(start, end):
            segment.entries.append(Entry(value))

    def completed(self, value: Value, start: int, end: int, event: int) -> None:
        """The op of ``value`` has completed. Call ``value.fail`` first if it failed."""
        value.finish = event
        inside = list(self._within(start, end))
        few = value.data is not None and (
            sum(segment.end - segment.start for segment in inside) * COPY_BELOW < len(value.data)
        )
        for segment in inside:
            segment.completed(value, event)
            if few:
                for entry in segment.entries:
                    if entry.value is value:
                        entry.value = value.part(segment.start, segment.end)

    def cancelled(self, value: Value, start: int, end: int) -> None:
        """The op of ``value`` was refused and changed nothing."""
        for segment in self._within(start, end):
            segment.entries = [entry for entry in segment.entries if entry.value is not value]

    def observed(self, seen: Seen, event: int, *, learn: bool = True) -> list[Wrong]:
        """A read is done. Learn from it, and return what it should not have returned."""
        wrong: list[Wrong] = []
        for segment in list(self._within(seen.offset, seen.offset + len(seen.got))):
            start = max(segment.start, seen.offset)
            end = min(segment.end, seen.offset + len(seen.got))
            found, right = _judge(segment, start, end, seen)
            wrong += found
            for piece in right if learn else ():
                self._learn(piece, event)
        return wrong

    def decided(self, start: int, end: int, oldest: int) -> list[Outcome]:
        """Remove the segments in ``[start, end)`` that have one value, and return them.

        ``oldest`` is the event of the oldest submission of an op that is in flight.
        """
        found = []
        for segment in list(self._within(start, end)):
            segment.forget(oldest)
            outcome = segment.outcome() if segment.is_quiet else None
            if outcome is not None:
                self._remove(segment)
                found.append(outcome)
        return found

    def abandoned(self) -> list[Outcome]:
        """Remove the segments that only a read can tell, and return them as unknown."""
        found = [segment for segment in self._segments if segment.is_quiet]
        for segment in found:
            self._remove(segment)
        return [Outcome(segment.start, segment.end, None, failed=True) for segment in found]

    def _learn(self, piece: "_Piece", event: int) -> None:
        """A read has returned what the piece says is right."""
        if piece.proves_nothing:
            return
        segment = next(self._within(piece.start, piece.end))
        if (segment.start, segment.end) != (piece.start, piece.end):
            self._cut(piece.start)
            self._cut(piece.end)
            segment = next(self._within(piece.start, piece.end))
        segment.learn(piece.right, piece.seen.since, event, piece.seen.seq)

    # ---------------------------------------------------------------- the list of segments

    def _within(self, start: int, end: int) -> Iterator[Segment]:
        """Yield the segments that overlap ``[start, end)``. The list must not change meanwhile."""
        index = max(0, bisect_right(self._starts, start) - 1)
        segments = self._segments
        while index < len(segments) and segments[index].start < end:
            if segments[index].end > start:
                yield segments[index]
            index += 1

    def _insert(self, segment: Segment) -> None:
        index = bisect_right(self._starts, segment.start)
        self._starts.insert(index, segment.start)
        self._segments.insert(index, segment)

    def _remove(self, segment: Segment) -> None:
        index = bisect_right(self._starts, segment.start) - 1
        del self._starts[index], self._segments[index]
        self.bytes -= segment.end - segment.start

    def _cut(self, at: int) -> None:
        """Split the segment that has byte ``at`` inside of it."""
        index = bisect_right(self._starts, at) - 1
        if index >= 0 and self._segments[index].start < at < self._segments[index].end:
            self._insert(self._segments[index].split(at))


def _judge(
    segment: Segment, start: int, end: int, seen: Seen
) -> tuple[list[Wrong], list["_Piece"]]:
    """Compare the bytes ``[start, end)``, which are in the segment, with what it may hold. Return
    what is wrong, and the pieces that hold one of its values."""
    allowed = [index for index, entry in enumerate(segment.entries) if entry.dead > seen.since]
    whole = _Piece(segment, allowed, start, end, seen)
    if whole.right:
        return [], [whole]
    wrong: list[Wrong] = []
    right: list[_Piece] = []
    may_tear = whole.may_tear
    for first, last in in_sectors(start, end):
        piece = _Piece(segment, allowed, first, last, seen)
        if not piece.right:
            if not (may_tear and piece.is_mixture()):
                wrong.append(piece.wrong())
        elif right and right[-1].end == first and right[-1].right == piece.right:
            right[-1].end = last
            right[-1].proves_nothing = right[-1].proves_nothing or piece.proves_nothing
        else:
            right.append(piece)
    return wrong, right


class _Piece:
    """The bytes ``[start, end)`` of a segment as a read returned them."""

    def __init__(
        self, segment: Segment, allowed: list[int], start: int, end: int, seen: Seen
    ) -> None:
        self.start = start
        self.end = end
        self.seen = seen
        self._segment = segment
        self._allowed = allowed
        self._got = bytes(seen.got[start - seen.offset : end - seen.offset])
        self.proves_nothing = False
        """Whether a loose value may be what was read."""
        self.right = [index for index in allowed if self._is(index)]
        """The entries that are what was read."""

    def _is(self, index: int) -> bool:
        value = self._segment.entries[index].value
        if value.holds is Holds.ANYTHING:
            self.proves_nothing = True
            return True
        held = self._held(value)
        if held == self._got:
            self.proves_nothing = self.proves_nothing or value.loose
            return True
        if value.holds is Holds.BASE and self.seen.excused(self.start, held, self._got):
            self.proves_nothing = True
            return True
        return False

    def _held(self, value: Value) -> bytes:
        if value.holds is Holds.BASE:
            at = self.seen.offset
            return bytes(self.seen.base[self.start - at : self.end - at])
        return value.bytes(self.start, self.end)

    @property
    def may_tear(self) -> bool:
        """Whether the read may mix values byte by byte: it races with a change, or one of the
        values comes and goes."""
        entries = self._segment.entries
        return self._segment.races(self.seen.since) or any(
            entries[index].value.loose for index in self._allowed
        )

    def is_mixture(self) -> bool:
        """Whether each byte is that of some allowed value."""
        values = [self._held(self._segment.entries[index].value) for index in self._allowed]
        return all(byte in held for byte, *held in zip(self._got, *values, strict=True))

    def wrong(self) -> Wrong:
        """Return what was read beside the newest value that is allowed, if any is: what earlier
        reads returned may leave none."""
        values = [self._segment.entries[index].value for index in self._allowed]
        held = [self._held(value) for value in values if value.holds is not Holds.ANYTHING]
        return Wrong(self.start, held[-1] if held else bytes(self.end - self.start), self._got)
