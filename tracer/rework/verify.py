"""Is a trace whole, closed, and are all its payloads there and right?"""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tracer.digest import digest
from tracer.errors import TraceError
from tracer.op import CARRIES_DATA, NO_PAYLOAD, ZERO_DIGEST, Op
from tracer.progress import bar
from tracer.trace.file import Trace
from tracer.trace.payloads import PayloadReader, payload_path


@dataclass(slots=True)
class Verification:
    """What was found. ``missing`` and ``damaged`` count payloads."""

    trace: str
    ops: int = 0
    payloads: int = 0
    missing: int = 0
    damaged: int = 0
    closed: bool = False
    problems: list[str] = field(default_factory=list)
    ok: bool = True
    schema: int = 1

    def add(self, problem: str) -> None:
        self.ok = False
        self.problems.append(problem)


def verify(path: Path) -> Verification:
    """Read all of a trace and its payloads. Raises TraceError only where it is no trace at all."""
    result = Verification(str(path))
    with ExitStack() as stack:
        trace = stack.enter_context(Trace(path))
        reader = None
        if trace.header.payloads == "full":
            try:
                reader = stack.enter_context(PayloadReader(payload_path(path), trace.header.id))
            except TraceError as error:
                result.add(str(error))
        _verify(trace, reader, result)
    return result


def _verify(trace: Trace, reader: PayloadReader | None, result: Verification) -> None:
    """Add what is wrong."""
    highest, first_bad = -1, ""
    try:
        with bar("verifying", trace.count, "records") as progress:
            for record in trace.records():
                progress(1)
                if isinstance(record, Op):
                    result.ops += 1
                    highest = max(highest, record.seq)
                    if reader is not None and record.kind in CARRIES_DATA:
                        problem = _check_payload(result, reader, record)
                        first_bad = first_bad or problem
    except TraceError as error:
        result.add(str(error))
    end = trace.end
    result.closed = end is not None
    if end is None:
        result.add("it was not closed: the recorder was killed, or records are missing at the end")
    elif end.ops != result.ops:
        result.add(f"its end says {end.ops} ops, but {result.ops} are there")
    if trace.torn_bytes:
        result.add(f"its last {trace.torn_bytes} bytes are part of a record that is cut off")
    if highest + 1 > result.ops:
        result.add(
            f"{highest + 1 - result.ops} ops were in flight when it ended and have no record"
        )
    if first_bad:
        counts = f"{result.missing} payloads are missing and {result.damaged} damaged"
        result.add(f"{counts}; the first: {first_bad}")
    if reader is not None and reader.torn:
        result.add(f"{reader.path} is cut off within a block")


def _check_payload(result: Verification, reader: PayloadReader, op: Op) -> str:
    """Count an op's payload, and what is wrong with it; say what is."""
    if op.digest == ZERO_DIGEST:
        return ""
    result.payloads += 1
    if op.payload == NO_PAYLOAD:
        result.missing += 1
        return f"op #{op.seq} has none"
    try:
        right = digest(reader.read(op.payload, op.length)) == op.digest
    except TraceError as error:
        result.missing += 1
        return f"op #{op.seq}: {error}"
    if not right:
        result.damaged += 1
        return f"op #{op.seq}: it is not what was written"
    return ""
