"""``trace strip``: copy a trace without its payloads, with digests alone."""

from dataclasses import dataclass, replace
from pathlib import Path

from tracer.op import NO_PAYLOAD, Op
from tracer.progress import bar
from tracer.rework.rewrite import check_output, derived, new_trace
from tracer.trace.file import Trace
from tracer.trace.records import Mark, Mismatch, Restart, Settle


@dataclass(slots=True)
class Stripped:
    """The trace that was written. ``closed`` says whether it has an end record. Sizes are bytes."""

    source: str
    trace: str
    ops: int
    closed: bool
    trace_bytes: int
    schema: int = 1


def strip(source: Path, out: Path, *, force: bool = False) -> Stripped:
    """Write a copy of ``source`` without payloads. Does not read its payload store, which may be
    missing. If the source was not closed, the copy has no end record either.

    Raises UsageError if ``out`` cannot be used, TraceError if the source is damaged, StorageError
    if ``out`` cannot be written.
    """
    check_output(out, source, force=force)
    ops = 0
    with (
        Trace(source) as trace,
        new_trace(out, derived(trace.header, payloads="hash")) as written,
        bar("stripping", trace.count, "records") as progress,
    ):
        for record in trace.records():
            progress(1)
            if isinstance(record, Op):
                record.payload = NO_PAYLOAD
                written.op(record)
                ops += 1
            elif isinstance(record, Mark):
                written.mark(record)
            elif isinstance(record, Settle):
                written.settle(record)
            elif isinstance(record, Restart):
                written.restart(record)
            elif isinstance(record, Mismatch):
                written.mismatch(replace(record, payload=NO_PAYLOAD))
        end = trace.end
        written.sync()
        written.close(end)
    return Stripped(str(source), str(out), ops, end is not None, out.stat().st_size)
