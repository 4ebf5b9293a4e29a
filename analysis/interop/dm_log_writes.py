"""The log of the kernel's dm-log-writes target, which QEMU's blklogwrites driver writes as well.

tracer/below/log_writes.py describes the format. xfstests' src/log-writes/replay-log reads it.

A log has no times: each entry comes a microsecond after the entry before it.
"""

from collections import Counter
from typing import BinaryIO

from analysis.interop.foreign_file import BinaryFile
from analysis.interop.job import Job
from analysis.interop.sink import Sink, pieces
from tracer.below.log_writes import (
    DISCARD,
    ENTRY,
    FLUSH,
    FUA,
    MAGIC,
    MARK,
    MAX_SECTOR,
    METADATA,
    SUPER,
    VERSION,
)
from tracer.errors import UsageError
from tracer.op import SECTOR, Flag, Kind, Op
from tracer.trace.data import TraceWithData
from tracer.trace.header import MAX_SIZE
from tracer.trace.records import Mark, Restart, Settle

STEP = 1000
"""Nanoseconds from one entry to the next."""

ZEROES = bytes(1 << 20)


def recognise(head: bytes) -> bool:
    """Return whether a file begins with the magic number."""
    return head[:8] == MAGIC.to_bytes(8, "little")


def read(source: BinaryFile, sink: Sink) -> None:
    """Pass the entries of a log to a sink. Raises TraceError."""
    magic, version, entries, sector_size = SUPER.unpack(source.take(SUPER.size))
    if magic != MAGIC:
        raise source.error("not a superblock of dm-log-writes")
    if version != VERSION:
        raise source.error(f"version {version} of dm-log-writes is not supported")
    if not SECTOR <= sector_size <= MAX_SECTOR or sector_size & (sector_size - 1):
        raise source.error(f"{sector_size} is not a sector size")
    source.skip(sector_size - SUPER.size)
    for number in range(entries):
        source.record = source.at
        _entry(source, sink, sector_size, number * STEP)


def _entry(source: BinaryFile, sink: Sink, sector_size: int, now: int) -> None:
    sector, sectors, flags, name_length = ENTRY.unpack(source.take(ENTRY.size))
    if flags & ~(FLUSH | FUA | DISCARD | MARK | METADATA) or not (flags or sectors):
        raise source.error("not an entry")
    if max(sector, sectors) > MAX_SIZE // sector_size:
        raise source.error(f"{sectors} sectors at sector {sector}: no disk is so large")
    if flags & METADATA:
        sink.skip("flag METADATA")
    rest = sector_size - ENTRY.size
    if flags & MARK:
        if name_length > rest:
            raise source.error(f"a mark of {name_length} bytes does not fit into its sector")
        sink.mark(source.take(name_length).decode(errors="replace").rstrip("\0"), now)
        rest -= name_length
    source.skip(rest)
    if flags & FLUSH:  # the flush comes before the entry's own data
        sink.do(Op(0, Kind.FLUSH, submitted=now))
    if not sectors:
        return
    op = Op(0, Kind.WRITE, 0, sector * sector_size, sectors * sector_size, now)
    if flags & FUA:
        op.flags = Flag.FUA
    if flags & DISCARD:
        op.kind = Kind.TRIM
        sink.do(op)
        return
    for offset, length in pieces(op):
        data = None
        if sink.keeps_data:
            data = source.take(length)
        else:
            source.skip(length)
        sink.do(Op(0, op.kind, op.flags, offset, length, now), data)


def write(job: Job) -> dict[str, int]:
    """Write the changes of a trace as a log; return what was left out, and how often.

    Raises UsageError if an op does not begin and end at a sector.
    """
    left_out: Counter[str] = Counter()
    with TraceWithData(job.trace) as source, job.new.open("wb") as file:
        log = _Log(file)
        winners = {settle.winner for settle in source.trace.settles()}
        known: dict[int, Op] = {}
        for record in source.trace.records():
            job.progress(1)
            if isinstance(record, Mark):
                log.mark(record.name)
            elif isinstance(record, Settle):
                # the log's order says otherwise: the winner is written once more
                winner = known.get(record.winner)
                if record.offset % SECTOR or record.length % SECTOR or winner is None:
                    left_out["settle"] += 1
                else:
                    log.settle(source, record, winner)
            elif isinstance(record, Restart):
                left_out["restart"] += 1
            elif isinstance(record, Op):
                if record.reference_status:
                    left_out["failed ops"] += 1
                elif record.kind in _FLAGS:
                    log.op(source, record)
                    if record.seq in winners:
                        known[record.seq] = record
                else:
                    left_out[Kind(record.kind).label] += 1
        log.close()
    return left_out


_FLAGS = {Kind.WRITE: 0, Kind.ZERO: 0, Kind.START: 0, Kind.TRIM: DISCARD, Kind.FLUSH: FLUSH}
"""The kinds of op that a log can hold, with their flags."""


class _Log:
    """A log being written, in sectors of 512 bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._entries = 0
        file.write(bytes(SECTOR))  # room for the superblock: the number of entries is not known yet

    def op(self, source: TraceWithData, op: Op) -> None:
        flags = _FLAGS[Kind(op.kind)]
        if op.flags & Flag.FUA and not flags:
            flags |= FUA
        if op.offset % SECTOR or op.length % SECTOR:
            raise UsageError(
                f"{source.trace.path}: op #{op.seq} does not begin and end with a sector: a log of "
                "dm-log-writes cannot hold it"
            )
        self._entry(op.offset // SECTOR, op.length // SECTOR, flags)
        if op.kind == Kind.ZERO:
            self._zeroes(op.length)
        elif op.kind not in (Kind.TRIM, Kind.FLUSH):
            data = source.data(op)
            assert data is not None
            self._file.write(data)

    def settle(self, source: TraceWithData, settle: Settle, winner: Op) -> None:
        start = max(settle.offset, winner.offset)
        end = min(settle.offset + settle.length, winner.end)
        if start < end:
            self._entry(start // SECTOR, (end - start) // SECTOR, 0)
            data = source.data(winner)
            if data is None:
                self._zeroes(end - start)
            else:
                self._file.write(memoryview(data)[start - winner.offset : end - winner.offset])

    def mark(self, name: str) -> None:
        self._entry(0, 0, MARK, name.encode())

    def close(self) -> None:
        """Write the superblock."""
        self._file.seek(0)
        self._file.write(SUPER.pack(MAGIC, VERSION, self._entries, SECTOR))

    def _zeroes(self, length: int) -> None:
        for at in range(0, length, len(ZEROES)):
            self._file.write(ZEROES[: length - at])

    def _entry(self, sector: int, sectors: int, flags: int, name: bytes = b"") -> None:
        self._entries += 1
        entry = ENTRY.pack(sector, sectors, flags, len(name)) + name
        self._file.write(entry.ljust(SECTOR, b"\0"))
