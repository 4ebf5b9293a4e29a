"""The disk as it should have been at a moment of a trace, read from the trace itself.

Nothing is copied: a map of the disk says which record of the trace last wrote each byte, and a read
fetches the payloads that it needs.
"""

import errno
from collections import OrderedDict

from tracer.errors import TraceError
from tracer.nbd import protocol as p
from tracer.op import Buffer, Extents, Kind, Leaves, Op, effect
from tracer.progress import bar
from tracer.rework.last_writers import LastWriters
from tracer.trace.data import TraceWithData
from tracer.trace.effects import changes
from tracer.trace.order import numbered_by_seq

CACHED = 64 << 20
"""Bytes of payloads that are kept in memory: two of the largest ops."""

HOLE = int(p.State.HOLE | p.State.ZERO)
"""The block status of bytes that no op wrote, or that read as zeroes."""

Answer = tuple[int, Buffer | None, Extents]
"""What a request returns: its errno, a read's bytes and a block status's extents."""

OFFERED = (
    p.TransmissionFlag.HAS_FLAGS
    | p.TransmissionFlag.READ_ONLY
    | p.TransmissionFlag.SEND_FLUSH
    | p.TransmissionFlag.SEND_CACHE
    | p.TransmissionFlag.CAN_MULTI_CONN
)
"""What the disk offers. Nothing can be written, so a flush on any connection covers all of them."""


class Past:
    """The disk after the ops with a lower seq than ``before``, as checkout makes it.

    Takes memory for the map (16 bytes per range that an op wrote) and for CACHED bytes of payloads.
    Raises TraceError if the trace cannot be read.
    """

    def __init__(self, source: TraceWithData, before: int) -> None:
        self.export = p.Export(source.trace.header.size, int(OFFERED))
        self.problem: TraceError | None = None
        """Why the last read failed; None if none has."""
        self._source = source
        self._writers = LastWriters()
        self._cache: OrderedDict[int, tuple[Op, Buffer]] = OrderedDict()
        self._cached = 0
        trace = source.trace
        rule = trace.header.trim
        numbered = (
            (number, record)
            for number, record in enumerate(trace.records())
            if isinstance(record, Op)
        )
        with bar("reading the trace", before, "ops") as progress:
            ordered = numbered_by_seq(numbered, trace.recorded)
            for number, op, start, end in changes(ordered, trace.settles(), before):
                progress(1)
                leaves = effect(op, rule).leaves
                if leaves is Leaves.DATA:
                    self._writers.write(start, end, number)
                elif leaves is Leaves.ZEROES:
                    self._writers.zero(start, end)

    def execute(self, kind: int, offset: int, length: int, _: Buffer | None) -> Answer:
        """Do a request. If it fails, ``problem`` says why."""
        if kind == Kind.BLOCK_STATUS:
            return 0, None, self.extents(offset, length)
        if kind != Kind.READ:
            return 0, None, []  # a flush or a prefetch: there is nothing to do
        try:
            return 0, self.read(offset, length), []
        except TraceError as error:
            self.problem = error
            return errno.EIO, None, []

    def read(self, offset: int, length: int) -> bytearray:
        """Return the bytes of a range. Raises TraceError if a payload is missing or damaged."""
        data = bytearray(length)
        for start, end, number in self._writers.within(offset, offset + length):
            op, payload = self._payload(number)
            piece = memoryview(payload)[start - op.offset : end - op.offset]
            data[start - offset : end - offset] = piece
        return data

    def extents(self, offset: int, length: int) -> Extents:
        """Return the block status of a range: data where an op wrote, holes elsewhere."""
        found: Extents = []

        def add(size: int, state: int) -> None:
            if found and found[-1][1] == state:
                found[-1] = found[-1][0] + size, state
            elif size:
                found.append((size, state))

        at = offset
        for start, end, _ in self._writers.within(offset, offset + length):
            add(start - at, HOLE)
            add(end - start, 0)
            at = end
        add(offset + length - at, HOLE)
        return found

    def _payload(self, number: int) -> tuple[Op, Buffer]:
        """Return an op that wrote data, by the number of its record, and the data."""
        cached = self._cache.get(number)
        if cached is not None:
            self._cache.move_to_end(number)
            return cached
        op = self._source.trace.op(number)
        data = self._source.data(op)
        assert data is not None  # the map has only ops that leave data
        self._cache[number] = op, data
        self._cached += op.length
        while self._cached > CACHED:
            _, (oldest, _) = self._cache.popitem(last=False)
            self._cached -= oldest.length
        return op, data
