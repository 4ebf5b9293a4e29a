"""``trace cut``: copy a part of a trace into a new trace that replays by itself.

The new trace begins with start ops for the data that the disk held before the part: for each
earlier op, in the order of submission, those of its bytes that no later op has overwritten. Then
come the ops of the part, their seqs shifted by a constant. A trim does what it does to the
reference (tracer/op.py): it leaves zeroes, or, under the trim rule "old-or-zero", changes nothing.

Without payloads, an op's data is made from its digest (tracer/digest.py). A digest can produce the
first n bytes of the data, but no other part of it. So the start op covers the earlier write from
its first byte to the last byte that is still there. If that overwrites too much, later start ops
restore it: later writes, or zeroes. Where settles say that an earlier op won over a later one, the
order of the ops does not restore it, so the start ops go from the end of the disk to its beginning.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from tracer.errors import UsageError
from tracer.op import (
    NO_PAYLOAD,
    NO_SEQ,
    NO_TIME,
    ZERO_DIGEST,
    Buffer,
    Fault,
    Kind,
    Leaves,
    Op,
    effect,
)
from tracer.progress import bar
from tracer.rework.last_writers import LastWriters
from tracer.rework.rewrite import check_output, derived, new_trace
from tracer.trace.data import TraceWithData
from tracer.trace.effects import changes
from tracer.trace.order import by_seq
from tracer.trace.output import TraceOutput
from tracer.trace.payloads import payload_path
from tracer.trace.records import (
    MAX_LENGTH,
    End,
    Mark,
    Mismatch,
    Restart,
    Settle,
)

Progress = Callable[[int], None]


@dataclass(slots=True)
class Cut:
    """The trace that was made from the ops ``first`` to ``last`` of ``source``. ``ops`` is the
    number of these ops, ``start_ops`` the number of start ops before them. Sizes are bytes."""

    source: str
    trace: str
    first: int
    last: int
    ops: int
    start_ops: int
    start_bytes: int
    trace_bytes: int
    payload_bytes: int
    schema: int = 1


def cut(source: TraceWithData, first: int, upto: int, out: Path, *, force: bool = False) -> Cut:
    """Write the ops ``first`` to ``upto - 1`` to a new trace ``out``.

    Raises UsageError if there are no such ops or ``out`` cannot be used, TraceError if the source
    is damaged or lacks a payload, StorageError if ``out`` cannot be written.
    """
    trace = source.trace
    if first >= upto:
        raise UsageError(f"there are no ops from #{first} to #{upto - 1}")
    check_output(out, trace.path, force=force)
    with bar("cutting", trace.count + 3 * first, "records") as progress:
        writers = _last_writers(source, first, progress)
        # count the start ops first: the header, which is written before them, has their number
        count = sum(1 for _ in _start(source, first, writers, progress))
        named, zeroes = _winners(source, first, upto, writers, count, progress)
        count += len(zeroes)
        begins_blank = not count and not any(
            first <= op.seq < upto and op.kind == Kind.START for op in trace.ops()
        )
        header = derived(
            trace.header,
            start_image="blank" if begins_blank else "recorded",
            cut={"trace": trace.header.id, "first": first, "last": upto - 1, "start_ops": count},
        )
        with new_trace(out, header) as written:
            start_bytes = 0
            starts = _with_data(source, _start(source, first, writers, progress))
            for op, data in chain(starts, zeroes):
                start_bytes += op.length
                _append(written, op, data)
            end = _copy(source, first, upto, count - first, named, written, progress)
            if not end.ops:
                raise UsageError(
                    f"{trace.path} has no record of any op from #{first} to #{upto - 1}"
                )
            written.sync()
            written.close(replace(end, ops=count + end.ops))
    payloads = payload_path(out)
    return Cut(
        str(trace.path), str(out), first, upto - 1, end.ops, count, start_bytes, out.stat().st_size,
        payloads.stat().st_size if header.payloads == "full" else 0,
    )  # fmt: skip


def _before(source: TraceWithData, first: int, progress: Progress) -> Iterator[Op]:
    """Yield the ops before op ``first``, in order of submission."""

    def before() -> Iterator[Op]:
        missing = first
        for op in source.trace.ops() if first else ():
            progress(1)
            if op.seq < first:
                yield op
                missing -= 1
                if not missing:
                    return

    return by_seq(before(), source.trace.recorded)


def _last_writers(source: TraceWithData, first: int, progress: Progress) -> LastWriters:
    """Return which op last wrote each byte that the disk holds before op ``first``."""
    writers = LastWriters()
    trace = source.trace
    before = ((op.seq, op) for op in _before(source, first, progress))
    for seq, op, start, end in changes(before, trace.settles(), first):
        leaves = effect(op, trace.header.trim).leaves
        if leaves is Leaves.DATA:
            writers.write(start, end, seq)
        elif leaves is Leaves.ZEROES:
            writers.zero(start, end)
    return writers


def _winners(
    source: TraceWithData,
    first: int,
    upto: int,
    writers: LastWriters,
    count: int,
    progress: Progress,
) -> tuple[dict[Settle, int], list[tuple[Op, None]]]:
    """Return, for each settle of the part that an op before the part won, the start op that has the
    winner's bytes. Start ops of zeroes that settles need come after the first ``count``."""
    wanted: dict[int, list[Settle]] = {}
    for settle in source.trace.settles():
        if settle.winner < first <= settle.seq < upto:
            wanted.setdefault(settle.winner, []).append(settle)
    named: dict[Settle, int] = {}
    for op, writer in _start(source, first, writers, progress) if wanted else ():
        for settle in wanted.get(writer.seq, ()):
            inside = op.offset <= settle.offset and settle.offset + settle.length <= op.end
            if inside and op.digest == writer.digest:
                named[settle] = op.seq
    zeroes: list[tuple[Op, None]] = []
    for settle in chain.from_iterable(wanted.values()):
        start, length = settle.offset, settle.length
        held = next(writers.within(start, start + length), None)
        if held is None and length <= MAX_LENGTH["data"]:
            named[settle] = count + len(zeroes)
            zeroes.append((Op(named[settle], int(Kind.START), 0, start, length, completed=0), None))
    return named, zeroes


def _start(
    source: TraceWithData, first: int, writers: LastWriters, progress: Progress
) -> Iterator[tuple[Op, Op]]:
    """Yield the start ops, numbered from 0, each with the op whose data it has."""
    if not source.real and source.trace.settles():
        yield from _backwards(source, first, writers, progress)
        return
    seq = 0
    for op in _before(source, first, progress):
        if effect(op, source.trace.header.trim).leaves is not Leaves.DATA:
            continue
        for start, end, key in _pieces(op, writers, whole=source.real):
            yield Op(seq, int(Kind.START), 0, start, end - start, completed=0, digest=key), op
            seq += 1


def _backwards(
    source: TraceWithData, first: int, writers: LastWriters, progress: Progress
) -> Iterator[tuple[Op, Op]]:
    """Yield the start ops of a trace without payloads, from the end of the disk to its beginning.

    Each piece of an op's data comes after all that lies behind it, so that it restores what these
    start ops overwrote in front of theirs. Takes memory for each piece and each op.
    """
    pieces: list[tuple[int, int, int]] = []
    for start, end, seq in writers.within(0, source.trace.header.size):
        if pieces and pieces[-1][1:] == (start, seq):
            start = pieces.pop()[0]
        pieces.append((start, end, seq))
    owners = {seq for *_, seq in pieces}
    ops = {op.seq: op for op in _before(source, first, progress) if op.seq in owners}
    number = 0
    touched = above = source.trace.header.size  # the start ops so far wrote only from here on
    for start, end, seq in reversed(pieces):
        op = ops[seq]
        for a, b, key in (*_zeroes(max(end, touched), above), (op.offset, end, op.digest)):
            yield Op(number, int(Kind.START), 0, a, b - a, completed=0, digest=key), op
            number += 1
        touched, above = min(touched, op.offset), start
    for a, b, key in _zeroes(touched, above) if pieces else ():
        yield Op(number, int(Kind.START), 0, a, b - a, completed=0, digest=key), op
        number += 1


def _zeroes(start: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield start ops that write zeroes to ``[start, end)``, as ``_pieces`` does."""
    most = MAX_LENGTH["data"]
    for at in range(start, end, most):
        yield at, min(at + most, end), ZERO_DIGEST


def _pieces(op: Op, writers: LastWriters, *, whole: bool) -> list[tuple[int, int, bytes]]:
    """Return what start ops must write for an op, as ``(start, end, digest)`` in bytes of the disk.

    With the ``whole`` payload known, that is each piece of its data that is still on the disk.
    Without, it is the op's data up to the end of the last such piece, then zeroes where the disk
    holds zeroes.
    """
    still: list[tuple[int, int]] = []
    for start, end, seq in writers.within(op.offset, op.end):
        if seq != op.seq:
            continue
        if still and still[-1][1] == start:
            still[-1] = still[-1][0], end
        else:
            still.append((start, end))
    if whole or not still:
        return [(start, end, op.digest) for start, end in still]
    last = still[-1][1]
    found, at = [(op.offset, last, op.digest)], op.offset
    for start, end, _ in writers.within(op.offset, last):
        if at < start:
            found.append((at, start, ZERO_DIGEST))
        at = end
    return found


def _with_data(
    source: TraceWithData, pairs: Iterator[tuple[Op, Op]]
) -> Iterator[tuple[Op, bytes | memoryview | None]]:
    """Yield each start op with its data, or with None if the trace has no payloads."""
    data, whose = b"", -1
    for op, writer in pairs:
        if not source.real:
            yield op, None
            continue
        if writer.seq != whose:  # all pieces of an op come in a row
            found = source.data(writer)
            assert found is not None
            data, whose = bytes(found), writer.seq
        at = op.offset - writer.offset
        yield op, memoryview(data)[at : at + op.length]


def _copy(
    source: TraceWithData,
    first: int,
    upto: int,
    shift: int,
    named: dict[Settle, int],
    written: TraceOutput,
    progress: Progress,
) -> End:
    """Append the records of the part, with ``shift`` added to each seq. ``named`` has the start ops
    that won settles. Return an end record that counts only these ops and mismatches."""
    ops = mismatches = last = 0
    for record in source.trace.records():
        progress(1)
        if isinstance(record, Op):
            if first <= record.seq < upto:
                data = source.data(record) if source.real else None
                record.seq += shift
                _append(written, record, data)
                ops += 1
                if record.completed != NO_TIME:
                    last = max(last, record.completed)
        elif isinstance(record, Mark):
            if first <= record.seq <= upto:  # the user may have cut up to a mark
                written.mark(replace(record, seq=record.seq + shift))
        elif isinstance(record, Restart):
            if first < record.seq <= upto:
                written.restart(replace(record, seq=record.seq + shift))
        elif isinstance(record, Settle):
            if first <= record.seq < upto:
                inside = first <= record.winner < upto
                winner = record.winner + shift if inside else named.get(record, NO_SEQ)
                written.settle(replace(record, seq=record.seq + shift, winner=winner))
        elif isinstance(record, Mismatch):
            # differences found after the run have the number that the next op would have had
            after_run = record.seq == upto and record.fault == Fault.FINAL
            if first <= record.seq < upto or after_run:
                actual = source.returned(record)
                payload = NO_PAYLOAD if actual is None else written.put(record.digest, actual)
                written.mismatch(replace(record, seq=record.seq + shift, payload=payload))
                mismatches += 1
    return End(ops, mismatches, last, "cut")


def _append(written: TraceOutput, op: Op, data: Buffer | None) -> None:
    """Append an op and, if it is known, its data."""
    op.payload = NO_PAYLOAD
    if data is not None:
        written.store(op, bytes(data))
    written.op(op)
