"""What a trace contains: a summary, and a selection of its ops.

Both are made from the records, without polars, which loads slowly.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from tracer.errors import UsageError
from tracer.op import KIND_BY_NUMBER, MUTATING, NO_PAYLOAD, NO_SEQ, SECTOR, Fault, Op, flag_names
from tracer.trace.effects import last_writer
from tracer.trace.file import Trace
from tracer.trace.records import Mark, Mismatch, Restart, Settle


@dataclass(frozen=True, slots=True)
class Selection:
    """Some ops of a trace, sorted by seq."""

    ops: list[Op]
    last_writer: int | None
    """The seq of the last op that changed the selected sector; None if no sector was selected, or
    no op changed it."""


def select(
    trace: Trace, *, first: int = 0, last: int | None = None, sector: int | None = None
) -> Selection:
    """Select the ops from number ``first`` to ``last`` (None: the end), or those of them that touch
    a sector.

    Raises UsageError if ``last`` comes before ``first`` or the disk has no such sector, TraceError
    if the trace is damaged.
    """
    if last is not None and last < first:
        raise UsageError(f"--to {last} comes before --from {first}")
    if sector is not None and sector * SECTOR >= trace.header.size:
        raise UsageError(
            f"the disk has {-(-trace.header.size // SECTOR)} sectors; it has no sector {sector}"
        )
    ops = sorted(
        (
            op
            for op in trace.ops()
            if op.seq >= first
            and (last is None or op.seq <= last)
            and (sector is None or sector in op.sectors)
        ),
        key=lambda op: op.seq,
    )
    writers = [op.seq for op in ops if op.kind in MUTATING and not op.reference_status]
    if sector is None:
        return Selection(ops, None)
    start = sector * SECTOR
    return Selection(ops, last_writer(writers, trace.settles(), start, start + SECTOR))


def summary(trace: Trace) -> dict[str, Any]:
    """Return what a trace is and contains, as ``trace show --json`` prints it. Raises TraceError if
    the trace is damaged."""
    counts: Counter[str] = Counter()
    amounts: Counter[str] = Counter()
    mismatches, marks, settles, restarts, last = [], [], [], [], 0
    for record in trace.records():
        if isinstance(record, Op):
            kind = KIND_BY_NUMBER[record.kind].label
            counts[kind] += 1
            amounts[kind] += record.length
            last = max(last, record.completed)
        elif isinstance(record, Mismatch):
            mismatches.append({"seq": record.seq, "fault": Fault(record.fault).label,
                               "offset": record.offset, "length": record.length})  # fmt: skip
        elif isinstance(record, Mark):
            marks.append(asdict(record))
        elif isinstance(record, Settle):
            winner = None if record.winner == NO_SEQ else record.winner
            settles.append(asdict(record) | {"winner": winner, "digest": record.digest.hex()})
        elif isinstance(record, Restart):
            restarts.append(asdict(record))
    end = trace.end
    return {
        "schema": 1,
        "trace": str(trace.path),
        "header": asdict(trace.header),
        "ops": dict(counts),
        "bytes": {kind: count for kind, count in amounts.items() if count},
        "duration_ns": last,
        "mismatches": mismatches,
        "marks": marks,
        "settles": settles,
        "restarts": restarts,
        "closed": end is not None,
        "verdict": end.verdict if end is not None else None,
        "torn_bytes": trace.torn_bytes,
    }


def op_as_dict(op: Op) -> dict[str, Any]:
    """Return an op as JSON has it: kind and flags by name, the digest in hexadecimal, null for what
    was not measured."""
    return {
        **asdict(op),
        "kind": KIND_BY_NUMBER[op.kind].label,
        "flags": flag_names(op.flags),
        "reference_ns": op.reference_ns or None,
        "test_ns": op.test_ns or None,
        "payload": None if op.payload == NO_PAYLOAD else op.payload,
        "digest": op.digest.hex(),
    }
