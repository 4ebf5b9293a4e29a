"""``trace verify``: check that a trace is whole and closed, that no payload is missing or damaged,
and that what settles say is what their ops wrote."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tracer.below.stored import StoredRun
from tracer.below.stream import Store, lower_path, read_lower
from tracer.digest import digest
from tracer.errors import TraceError
from tracer.op import CARRIES_DATA, MUTATING, NO_PAYLOAD, ZERO_DIGEST, Op
from tracer.progress import bar
from tracer.text import many, ops
from tracer.trace.file import Trace
from tracer.trace.packed import PackedReader, open_payloads
from tracer.trace.payload_reader import PayloadReader
from tracer.trace.payloads import payload_path
from tracer.trace.records import Settle

Reader = PayloadReader | PackedReader


@dataclass(slots=True)
class Verification:
    """The result. ``payloads`` is the number of payloads that were checked; ``missing`` and
    ``damaged`` are the numbers of those with a problem. ``settles`` is the number of settles, and
    ``unlike`` the number of those whose bytes are not what their op wrote."""

    trace: str
    ops: int = 0
    payloads: int = 0
    missing: int = 0
    damaged: int = 0
    settles: int = 0
    unlike: int = 0
    lower: int = 0
    """Payloads of lower ops, and pieces of the image before them, that were checked; they are not
    among ``payloads``."""
    closed: bool = False
    problems: list[str] = field(default_factory=list)
    ok: bool = True
    schema: int = 1

    def add(self, problem: str) -> None:
        """Add a problem: the trace is no longer ``ok``."""
        self.ok = False
        self.problems.append(problem)


def verify(path: Path) -> Verification:
    """Read a whole trace and its payloads. Raises TraceError if the file is not a trace; all other
    problems are in the result."""
    result = Verification(str(path))
    with ExitStack() as stack:
        trace = stack.enter_context(Trace(path))
        reader: Reader | None = None
        if trace.header.payloads == "full":
            try:
                reader = open_payloads(payload_path(path), trace.header.id)
                stack.callback(reader.close)
            except TraceError as error:
                result.add(str(error))
        _verify(trace, reader, result)
        _check_lower(path, trace.header.id, result)
    return result


def _check_lower(path: Path, trace_id: str, result: Verification) -> None:
    """Check the lower ops beside the trace, if there are any with data."""
    lower = lower_path(path)
    if not lower.exists():
        return
    try:
        header, _ = read_lower(lower)
        if header.trace != trace_id or header.store is Store.NONE:
            return
        with StoredRun(lower) as run:
            problems = list(run.check())
    except TraceError as error:
        result.add(str(error))
        return
    result.lower = len(problems)
    wrong = [problem for problem in problems if problem is not None]
    if wrong:
        result.add(f"{many(len(wrong), 'payload')} of lower ops missing or damaged; the first: "
                   f"{wrong[0]}")  # fmt: skip


def _verify(trace: Trace, reader: Reader | None, result: Verification) -> None:
    """Check the records and payloads, and add all problems to the result."""
    highest, first_bad = -1, ""
    winners: dict[int, Op] = {}
    try:
        settles = trace.settles()
        wanted = {settle.winner for settle in settles}
        with bar("verifying", trace.count, "records") as progress:
            for record in trace.records():
                progress(1)
                if isinstance(record, Op):
                    result.ops += 1
                    highest = max(highest, record.seq)
                    if record.seq in wanted:
                        winners[record.seq] = record
                    if reader is not None and record.kind in CARRIES_DATA:
                        problem = _check_payload(result, reader, record)
                        first_bad = first_bad or problem
        _check_settles(settles, winners, reader, result)
    except TraceError as error:
        result.add(str(error))
    end = trace.end
    result.closed = end is not None
    if end is None:
        result.add("it was not closed: the recorder was killed, or records are missing at the end")
    elif end.ops != result.ops:
        result.add(f"its end says {ops(end.ops)}, but {result.ops:,} are there")
    if trace.torn_bytes:
        result.add(f"its last record is cut off after {many(trace.torn_bytes, 'byte')}")
    if highest + 1 > result.ops:
        result.add(f"{ops(highest + 1 - result.ops)} in flight when it ended: there is no record")
    if first_bad:
        counts = f"{many(result.missing, 'payload')} missing, {result.damaged:,} damaged"
        result.add(f"{counts}; the first: {first_bad}")
    if reader is not None and reader.torn:
        result.add(f"{reader.path} is cut off within a block")


def _check_settles(
    settles: list[Settle],
    winners: dict[int, Op],
    reader: Reader | None,
    result: Verification,
) -> None:
    """Check and count settles against the ops that they name, whose seqs ``winners`` has."""
    first = ""
    for settle in settles:
        result.settles += 1
        op = winners.get(settle.winner)
        problem = "" if op is None else _unlike(settle, op, reader)
        if problem:
            result.unlike += 1
            first = first or f"op #{settle.seq} decided about op #{settle.winner}: {problem}"
    if first:
        counts = many(result.unlike, "settle")
        result.add(f"{counts} not as the trace's ops; the first: {first}")


def _unlike(settle: Settle, op: Op, reader: Reader | None) -> str:
    """Return why a settle cannot be about its winner, or an empty string, also if that cannot be
    checked."""
    end = settle.offset + settle.length
    if op.kind not in MUTATING:
        return "that changes nothing"
    if not (op.offset <= settle.offset and end <= op.end):
        return "that did not come to all of these bytes"
    if op.kind not in CARRIES_DATA or op.digest == ZERO_DIGEST:
        right = settle.digest == ZERO_DIGEST
    elif settle.length == op.length:
        right = settle.digest == op.digest
    elif reader is None or op.payload == NO_PAYLOAD:
        return ""
    else:
        try:
            data = reader.read(op.payload, op.length)
        except TraceError:
            return ""  # the payload is missing, which is a problem of its own
        piece = memoryview(data)[settle.offset - op.offset : end - op.offset]
        right = settle.digest == digest(bytes(piece))
    return "" if right else "these bytes are not what it wrote"


def _check_payload(result: Verification, reader: Reader, op: Op) -> str:
    """Check and count an op's payload. Return the problem, or an empty string."""
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
