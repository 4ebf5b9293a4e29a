"""A part of a trace: some of its ops, in the order of submission."""

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from blake3 import blake3

from replay.minimize.program import Program, from_ops
from tracer.op import Kind, Op
from tracer.trace.file import Trace, TraceWriter
from tracer.trace.order import numbered_by_seq
from tracer.trace.payloads import payload_path
from tracer.trace.records import End, Restart, pack_op

_SEQ = struct.Struct(">Q")
_SEQ_AT = slice(3, 11)
"""Where an op's record has its seq: after the array, the tag and a type byte
(tracer/trace/records.py)."""

BATCH = 4096
"""Records that are written with one call."""


@dataclass(frozen=True, slots=True)
class Index:
    """Where a trace has its ops: for each in the order of submission its record's number, its seq
    and its kind. Takes 17 bytes for each op."""

    trace: Trace
    numbers: "array[int]"
    seqs: "array[int]"
    kinds: bytes
    connections: int | None = None
    """Spread the ops of a part over so many connections; None: as recorded."""

    @classmethod
    def of(cls, trace: Trace, upto: int | None = None, connections: int | None = None) -> "Index":
        """Read the first ``upto`` ops of a trace; None: all. Raises TraceError."""
        numbers, seqs, kinds = array("Q"), array("Q"), bytearray()
        for number, op in numbered_by_seq(_numbered(trace), trace.recorded):
            if upto is not None and len(numbers) >= upto:
                break
            numbers.append(number)
            seqs.append(op.seq)
            kinds.append(op.kind)
        return cls(trace, numbers, seqs, bytes(kinds), connections)


def _numbered(trace: Trace) -> Iterator[tuple[int, Op]]:
    """Yield the ops of a trace, each with the number of its record."""
    for number, record in enumerate(trace.records()):
        if isinstance(record, Op):
            yield number, record


@dataclass(frozen=True, slots=True)
class Part:
    """Some ops of a trace: those at ``kept``, ascending positions in the order of submission."""

    index: Index
    kept: Sequence[int]

    @property
    def size(self) -> int:
        """Bytes of the disk."""
        return self.index.trace.header.size

    @property
    def key(self) -> object:
        """What tells parts of one trace apart."""
        return blake3(array("Q", self.kept).tobytes()).digest(16)

    def __len__(self) -> int:
        return len(self.kept)

    def program(self) -> Program:
        """Return the part as a program. Raises TraceError."""
        return from_ops(self._ops(), self.size, (restart.seq for restart in self._restarts()))

    def _ops(self) -> Iterator[tuple[int, Op]]:
        """Yield the ops, numbered from 0, each with the number of its record."""
        trace, index = self.index.trace, self.index
        for seq, at in enumerate(self.kept):
            op = trace.op(index.numbers[at])
            yield index.numbers[at], self._placed(op, seq)

    def _placed(self, op: Op, seq: int) -> Op:
        """Return an op as number ``seq`` of the part."""
        op.seq = seq
        if self.index.connections is not None:
            op.connection = seq % self.index.connections + 1
        return op

    def write(self, path: Path) -> None:
        """Write the part to a new trace that shares the payload store of the whole.

        Its reads have the digests that they had in the whole. Raises TraceError, StorageError.
        """
        trace, index = self.index.trace, self.index
        starts = any(index.kinds[at] == Kind.START for at in self.kept)
        header = replace(trace.header, start_image="recorded" if starts else "blank", cut={})
        if header.payloads == "full":
            payload_path(path).symlink_to(payload_path(trace.path.absolute()))
        kept, numbers = self.kept, index.numbers
        by_number = sorted(range(len(kept)), key=lambda seq: numbers[kept[seq]])
        restarts = self._restarts()
        writer = TraceWriter(path, header)
        try:
            batch: list[bytes] = []
            for seq in by_number:
                if restarts and restarts[0].seq <= seq:
                    writer.write(batch)
                    batch = []
                    writer.restart(restarts.pop(0))
                batch.append(self._record(seq))
                if len(batch) >= BATCH:
                    writer.write(batch)
                    batch = []
            writer.write(batch)
            writer.close(End(len(self.kept), 0, 0, "minimized"))
        finally:
            writer.abandon()

    def _record(self, seq: int) -> bytes:
        """Return the record of the op that is number ``seq`` of the part."""
        trace, number = self.index.trace, self.index.numbers[self.kept[seq]]
        if self.index.connections is not None:
            return pack_op(self._placed(trace.op(number), seq))
        record = trace.read(number, 1)
        return record[: _SEQ_AT.start] + _SEQ.pack(seq) + record[_SEQ_AT.stop :]

    def _restarts(self) -> list[Restart]:
        """Return the restarts between the ops that are kept."""
        found: list[Restart] = []
        due = sorted(self.index.trace.restarts(), key=lambda one: one.seq)
        if not due:
            return found
        for seq, at in enumerate(self.kept):
            while due and due[0].seq <= self.index.seqs[at]:
                restart = due.pop(0)
                if seq and not (found and found[-1].seq == seq):
                    found.append(replace(restart, seq=seq))
        return found
