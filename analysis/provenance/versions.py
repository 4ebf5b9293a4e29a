"""The history of the disk: which op wrote a byte, which bytes it wrote, and what was there before.

Indices number the changes in the order of submission. Memory: about 80 bytes for each change, those
of ``changes`` included.
"""

from collections.abc import Callable, Iterator
from itertools import islice, pairwise

import numpy as np

from analysis.provenance.changes import Changes, Ints
from tracer.digest import stand_in
from tracer.op import CARRIES_DATA, SECTOR, Conflicts, Kind, Op, changing_kinds
from tracer.ranges import RangeSet
from tracer.trace.data import TraceWithData
from tracer.trace.payloads import BLOCK


class Versions:
    """The changes that some ops of a trace made to its disk."""

    def __init__(self, source: TraceWithData, changes: Changes) -> None:
        self._source = source
        self.position = changes.position
        """Each op's place among all ops of the trace, reads and flushes included."""
        self.seq = changes.seq
        self.kind = changes.kind
        self.start = changes.offset
        self.end: Ints = self.start + changes.length
        self.completed = changes.completed
        """ns; -1 for never."""
        self.culprit = changes.culprit
        self._payload = changes.payload
        self._digest = np.ascontiguousarray(changes.digest)
        words = self._digest.view("<u8").reshape(-1, 2)
        self.empty = ~np.isin(self.kind, list(CARRIES_DATA)) | ~words.any(axis=1)
        """Whether an op leaves only zeroes behind."""
        self.trim = self.kind == Kind.TRIM
        self.trims_clear = Kind.TRIM in changing_kinds(source.trace.header.trim)
        """Whether a trim zeroes the bytes of the reference. Otherwise it leaves them alone."""
        self.ordered = source.trace.header.conflicts is Conflicts.HELD
        """Whether ops took effect in the order of their numbers. Otherwise an op that conflicted
        with another in flight may have won over a later one, and not in each run the same."""
        self._pool: Ints = np.arange(len(self.seq))
        self._held: tuple[int, memoryview] = (-1, memoryview(b""))
        self._copies: list[int] = []
        self.where: Ints = np.where(
            self.empty, -1, self._payload if source.real else self._lay_out()
        )
        """Where each op's bytes begin in the stream of all written data, -1 if they are not in it.
        Equal contents share a place."""

    def __len__(self) -> int:
        return len(self.seq)

    def op(self, index: int) -> Op:
        """Return an op, with only the fields that its bytes depend on."""
        payload = int(self._payload[index]) & ((1 << 64) - 1)
        return Op(
            int(self.seq[index]), int(self.kind[index]), 0, int(self.start[index]),
            int(self.end[index] - self.start[index]), payload=payload,
            digest=self._digest[index].tobytes(),
        )  # fmt: skip

    def data(self, index: int, start: int, end: int) -> bytes:
        """Return what an op left in the bytes ``[start, end)``, which lie within its range.

        Raises TraceError.
        """
        if self.empty[index]:
            return bytes(end - start)
        if self._held[0] != index:
            self._held = index, memoryview(self._source.data(self.op(index)) or b"")
        offset = int(self.start[index])
        return bytes(self._held[1][start - offset : end - offset])

    def focus(self, ranges: RangeSet) -> None:
        """Restrict ``content``, ``writers``, ``changes`` and ``later`` to these ranges of the disk.

        They then look at fewer ops.
        """
        if not ranges:
            return
        starts, ends = np.array(list(ranges)).T
        touched = np.searchsorted(ends, self.start, "right") < np.searchsorted(
            starts, self.end, "left"
        )
        self._pool = np.flatnonzero(touched)

    def content(
        self,
        start: int,
        end: int,
        before: int | None = None,
        trims: bool | None = None,
        without: int | None = None,
    ) -> bytes:
        """Return what ``[start, end)`` held before op ``before``, or after all ops if None.

        ``without`` is an op to leave out. If ``trims`` is true, trims make zeroes; if false, they
        do nothing; if None, they do what they did on the reference. Raises TraceError.
        """
        if trims is None:
            trims = self.trims_clear
        found = bytearray(end - start)
        for first, last, index in self.writers(start, end, before, trims, without):
            if index >= 0 and not self.empty[index]:
                found[first - start : last - start] = self.data(index, first, last)
        return bytes(found)

    def writers(
        self,
        start: int,
        end: int,
        before: int | None = None,
        trims: bool = False,
        without: int | None = None,
    ) -> list[tuple[int, int, int]]:
        """Return which op wrote each part of ``[start, end)`` last, before op ``before`` if given.

        The parts are ``(start, end, index)``, in the order of the disk; the index is -1 if no op
        wrote the part. ``without`` is an op to leave out. Trims count only if ``trims`` is true.
        """
        found = []
        missing = RangeSet([(start, end)])
        for index in self._over(start, end, before):
            if index == without or (self.trim[index] and not trims):
                continue
            for first, last in list(missing.within(int(self.start[index]), int(self.end[index]))):
                found.append((first, last, index))
                missing.remove(first, last)
            if not missing:
                break
        return sorted(found + [(first, last, -1) for first, last in missing])

    def changes(self, start: int, end: int, limit: int) -> list[int]:
        """Return the last ``limit`` ops that changed a part of ``[start, end)``, the latest first.

        Trims do not count.
        """
        return list(islice((j for j in self._over(start, end, None) if not self.trim[j]), limit))

    def later(self, index: int, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges within ``[start, end)`` that ops after ``index`` changed."""
        for other in self._over(start, end, None):
            if other <= index:
                return
            yield max(start, int(self.start[other])), min(end, int(self.end[other]))

    def _over(self, start: int, end: int, before: int | None) -> Iterator[int]:
        """Yield the ops that changed a part of ``[start, end)``, the latest first."""
        pool = self._pool if before is None else self._pool[: np.searchsorted(self._pool, before)]
        over = pool[(self.start[pool] < end) & (self.end[pool] > start)]
        return map(int, over[::-1])

    def _lay_out(self) -> Ints:
        """Return places for the stand-ins of digests: one after another, each digest once."""
        words = self._digest.view("<u8").reshape(-1, 2)
        length = self.end - self.start
        # one number for digest and length: it sorts faster than three numbers
        key = words[:, 0] + words[:, 1] * np.uint64(3) + length.astype(np.uint64) * np.uint64(5)
        key[self.empty] = 0
        _, first, which = np.unique(key, return_index=True, return_inverse=True)
        size = np.where(self.empty[first], 0, length[first])
        ends = np.cumsum(size)
        self._copies = [int(index) for index in first[size > 0]]
        places: Ints = (ends - size)[which]
        return places

    def blocks(self, wanted: Callable[[int, int], bool]) -> Iterator[tuple[int, bytes]]:
        """Yield blocks of the stream of all written data, as ``lookup.Blocks`` describes.

        Raises TraceError.
        """
        if self._source.payloads is not None:
            yield from self._source.payloads.blocks(wanted)
            return
        cuts = [0]
        for number, index in enumerate(self._copies):
            if self.where[index] - self.where[self._copies[cuts[-1]]] >= BLOCK:
                cuts.append(number)
        for first, last in pairwise([*cuts, len(self._copies)]):
            ops = [self.op(index) for index in self._copies[first:last]]
            if ops:
                data = b"".join(bytes(stand_in(op.digest, op.length)) for op in ops)
                yield int(self.where[self._copies[first]]), data

    def spans(self) -> tuple[Ints, Ints]:
        """Return the parts of the stream that hold whole sectors of the disk, each once.

        A part is from where an op's first whole sector begins to where the op's bytes end.
        """
        real = np.flatnonzero(self.where >= 0)
        starts = self.where[real] + -self.start[real] % SECTOR
        ends = self.where[real] + self.end[real] - self.start[real]
        order = np.lexsort((ends, starts))
        starts, ends = starts[order], ends[order]
        new = (np.diff(starts, prepend=-1) != 0) | (np.diff(ends, prepend=-1) != 0)
        return starts[new], ends[new]
