"""What a trace's ops made of the disk: who wrote a byte, what was there before, and with which bytes.

Indices number the changes in the order of submission. Memory: about 80 bytes for each, with what
``changes`` reads.
"""

from collections.abc import Callable, Iterator
from itertools import islice, pairwise

import numpy as np

from analysis.provenance.changes import Changes, Ints
from tracer.digest import stand_in
from tracer.op import CARRIES_DATA, KIND_BY_NUMBER, SECTOR, Kind, Op, changing_kinds
from tracer.ranges import RangeSet
from tracer.trace.data import TraceWithData
from tracer.trace.payloads import BLOCK


class Versions:
    """The changes that some ops of a trace made to its disk."""

    def __init__(self, source: TraceWithData, changes: Changes) -> None:
        self._source = source
        self.position = changes.position
        """Of each op among all of the trace's, reads and flushes too."""
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
        """Whether all that an op leaves behind is zeroes."""
        self.trim = self.kind == Kind.TRIM
        self.trims_clear = Kind.TRIM in changing_kinds(source.trace.header.trim)
        """Whether a trim turns the reference's bytes to zeroes; else it leaves them alone."""
        self._pool: Ints = np.arange(len(self.seq))
        self._held: tuple[int, memoryview] = (-1, memoryview(b""))
        self._copies: list[int] = []
        self.where: Ints = np.where(
            self.empty, -1, self._payload if source.real else self._lay_out()
        )
        """Where each op's bytes begin in the stream of all that was written, -1 for none there. Equal
        contents share a place."""

    def __len__(self) -> int:
        return len(self.seq)

    def op(self, index: int) -> Op:
        """An op, as far as its bytes are concerned."""
        payload = int(self._payload[index]) & ((1 << 64) - 1)
        return Op(
            int(self.seq[index]), int(self.kind[index]), 0, int(self.start[index]),
            int(self.end[index] - self.start[index]), payload=payload,
            digest=self._digest[index].tobytes(),
        )  # fmt: skip

    def name(self, index: int) -> str:
        """``#12 write``; the start image is no request of anyone's."""
        kind = KIND_BY_NUMBER[int(self.kind[index])]
        return "the start image" if kind == Kind.START else f"#{self.seq[index]} {kind.label}"

    def data(self, index: int, start: int, end: int) -> bytes:
        """What an op left in the bytes ``[start, end)`` of the disk, all its own. Raises TraceError."""
        if self.empty[index]:
            return bytes(end - start)
        if self._held[0] != index:
            self._held = index, memoryview(self._source.data(self.op(index)) or b"")
        offset = int(self.start[index])
        return bytes(self._held[1][start - offset : end - offset])

    def focus(self, ranges: RangeSet) -> None:
        """Say which bytes of the disk ``content``, ``writers`` and ``later`` will be asked about
        from now on: they look at fewer ops then."""
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
        """What ``[start, end)`` held before op ``before`` (after all, if None), or would have held
        ``without`` one. Trims make zeroes with ``trims``, else do nothing; by default they do what they
        did on the reference. Raises TraceError."""
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
        """Who wrote ``[start, end)`` last, before op ``before`` (of all, if None) and ``without`` one,
        as ``(start, end, index)`` in the order of the disk; -1 where nobody did. Only with ``trims``
        these count."""
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
        """The ops that changed some of ``[start, end)``, trims aside, the last one first, so many at
        most."""
        return list(islice((j for j in self._over(start, end, None) if not self.trim[j]), limit))

    def later(self, index: int, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The ranges within ``[start, end)`` that ops after ``index`` changed."""
        for other in self._over(start, end, None):
            if other <= index:
                return
            yield max(start, int(self.start[other])), min(end, int(self.end[other]))

    def _over(self, start: int, end: int, before: int | None) -> Iterator[int]:
        """The ops that changed some of ``[start, end)``, the last one first."""
        pool = self._pool if before is None else self._pool[: np.searchsorted(self._pool, before)]
        over = pool[(self.start[pool] < end) & (self.end[pool] > start)]
        return map(int, over[::-1])

    def _lay_out(self) -> Ints:
        """Places for what digests stand for: one after the other, each once."""
        words = self._digest.view("<u8").reshape(-1, 2)
        length = self.end - self.start
        # one number for digest and length, to be sorted faster than the three of them
        key = words[:, 0] + words[:, 1] * np.uint64(3) + length.astype(np.uint64) * np.uint64(5)
        key[self.empty] = 0
        _, first, which = np.unique(key, return_index=True, return_inverse=True)
        size = np.where(self.empty[first], 0, length[first])
        ends = np.cumsum(size)
        self._copies = [int(index) for index in first[size > 0]]
        places: Ints = (ends - size)[which]
        return places

    def blocks(self, wanted: Callable[[int, int], bool]) -> Iterator[tuple[int, bytes]]:
        """Walk over the stream of all that was written, as ``analysis.provenance.lookup.Blocks`` says.
        Raises TraceError."""
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
        """The parts of the stream that hold whole sectors of the disk: where the first of these begins
        and where the op's bytes end, each pair once."""
        real = np.flatnonzero(self.where >= 0)
        starts = self.where[real] + -self.start[real] % SECTOR
        ends = self.where[real] + self.end[real] - self.start[real]
        order = np.lexsort((ends, starts))
        starts, ends = starts[order], ends[order]
        new = (np.diff(starts, prepend=-1) != 0) | (np.diff(ends, prepend=-1) != 0)
        return starts[new], ends[new]
