"""Making and reading traces."""

import errno
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from tracer.op import Kind, Op
from tracer.trace.file import Trace, TraceWriter
from tracer.trace.header import Header
from tracer.trace.records import End, Mark, Mismatch, Restart, Settle, pack_op


@dataclass(frozen=True)
class Recorded:
    """What a trace holds beside its ops."""

    header: Header
    marks: list[Mark]
    mismatches: list[Mismatch]
    end: End | None
    torn_bytes: int
    settles: list[Settle]


def read_trace(path: Path) -> tuple[Recorded, list[Op]]:
    """What is in a trace, and its ops."""
    with Trace(path) as opened:
        found = Recorded(
            opened.header, opened.marks(), opened.mismatches(), opened.end, opened.torn_bytes,
            opened.settles(),
        )  # fmt: skip
        return found, list(opened.ops())


def changed(kind: int, start: int, end: int, *, failed: bool = False) -> Op:
    """An op on the bytes ``[start, end)`` that both sides are done with; one that failed did so on
    the test side."""
    op = Op(0, int(kind), 0, start, end - start)
    op.test_status = errno.EIO if failed else 0
    return op


def kinds(ops: Iterable[Op]) -> list[str]:
    """The labels of ops' kinds, in order."""
    return [Kind(op.kind).label for op in ops]


ENDED = End(0, 0, 0, "clean")


def write_trace(
    path: Path,
    records: Iterable[Op | Mark | Mismatch | Settle | Restart],
    size: int = 1 << 40,
    end: End | None = ENDED,
) -> Path:
    """A trace of these records; without an end it is one that was not closed."""
    writer = TraceWriter(path, Header(size))
    for record in records:
        if isinstance(record, Op):
            writer.write([pack_op(record)])
        elif isinstance(record, Mark):
            writer.mark(record)
        elif isinstance(record, Settle):
            writer.settle(record)
        elif isinstance(record, Restart):
            writer.restart(record)
        else:
            writer.mismatch(record)
    if end is None:
        writer.abandon()
    else:
        writer.close(end)
    return path


def as_recorded(records: Iterable[Op | Mark | Mismatch]) -> list[Op | Mark | Mismatch]:
    """The same records with the times that a recorder could have given their ops: in the order of
    the seqs none is submitted before another, and in the order of the file none completes before
    another. Times that are right stay as they are."""
    found = [replace(record) if isinstance(record, Op) else record for record in records]
    ops = [record for record in found if isinstance(record, Op)]
    latest = 0
    for op in sorted(ops, key=lambda op: op.seq):
        latest = op.submitted = max(op.submitted, latest)
    latest = 0
    for op in ops:
        latest = op.completed = max(op.completed, op.submitted, latest)
    return found
