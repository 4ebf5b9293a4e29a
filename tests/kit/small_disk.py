"""Ops on a small disk, with what each brings."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.kit.data import pattern
from tests.kit.traces import as_recorded
from tracer.digest import digest
from tracer.op import CARRIES_DATA, SECTOR, Kind, Op
from tracer.trace.header import Header
from tracer.trace.output import TraceOutput
from tracer.trace.records import NO_SEQ, Settle, pack_op

SECTORS = 12


SIZE = SECTORS * SECTOR


@st.composite
def ranges(draw: st.DrawFn) -> tuple[int, int]:
    """Bytes, often whole sectors: offset and length."""
    unit = draw(st.sampled_from([1, SECTOR, SECTOR, SECTOR]))
    offset = draw(st.integers(0, SIZE // unit - 1)) * unit
    return offset, draw(st.integers(1, (SIZE - offset) // unit)) * unit


@st.composite
def ops(draw: st.DrawFn) -> list[tuple[Op, bytes]]:
    """Ops by seq, each with what it brings. The start image's pieces come first, as they do."""
    many: list[tuple[Op, bytes]] = []
    starts = draw(st.lists(st.integers(0, SECTORS - 1), max_size=3, unique=True))
    wanted = [(Kind.START, at * SECTOR, SECTOR) for at in starts]
    guests = [
        Kind.WRITE,
        Kind.WRITE,
        Kind.READ,
        Kind.READ,
        Kind.TRIM,
        Kind.ZERO,
        Kind.FLUSH,
        Kind.CACHE,
    ]
    kinds = draw(st.lists(st.sampled_from(guests), max_size=14))
    wanted += [(kind, *(draw(ranges()) if kind != Kind.FLUSH else (0, 0))) for kind in kinds]
    for seq, (kind, offset, length) in enumerate(wanted):
        data = b""
        if kind in CARRIES_DATA:
            data = draw(
                st.sampled_from([bytes(length), pattern(length, 1), pattern(length, seq + 2)])
            )
        failed = kind != Kind.START and draw(st.integers(0, 9)) == 0
        status = draw(st.sampled_from([(5, 0), (5, 5), (0, 5)])) if failed else (0, 0)
        op = Op(
            seq, int(kind), 0, offset, length, submitted=seq * 10, completed=seq * 10 + 7,
            reference_status=status[0], test_status=status[1], digest=digest(data),
        )  # fmt: skip
        many.append((op, data))
    return many


@st.composite
def settles(draw: st.DrawFn, count: int) -> list[Settle]:
    """Settles that name any of so many ops."""
    if not count:
        return []
    seqs = st.integers(0, count - 1)
    return [
        Settle(draw(seqs), offset, length, draw(seqs | st.just(NO_SEQ)), 0, bytes(16))
        for offset, length in draw(st.lists(ranges(), max_size=6))
    ]


def in_order(
    many: list[tuple[Op, bytes]], settled: list[Settle], last: int
) -> list[tuple[Op, bytes, range]]:
    """The ops up to ``last`` in the order in which they took effect, and the bytes that each came
    to then: a settle repeats its winner before the op that decided."""
    found = [((op.seq, 1), op, data, range(op.offset, op.end)) for op, data in many]
    ops = {op.seq: (op, data) for op, data in many}
    for settle in settled:
        if settle.winner < settle.seq:
            op, data = ops[settle.winner]
            start = max(op.offset, settle.offset)
            end = min(op.end, settle.offset + settle.length)
            if start < end:
                found.append(((settle.seq, 0), op, data, range(start, end)))
    found.sort(key=lambda one: one[0])
    return [one[1:] for one in found if one[1].seq <= last]


def write(
    path: Path,
    many: list[tuple[Op, bytes]],
    order: list[int] | None = None,
    settled: Iterable[Settle] = (),
    **header: Any,
) -> Path:
    """A trace of ops and what they bring, its records in some order, and of settles."""
    with TraceOutput(path, Header(SIZE, **header)) as output:
        for op, data in many:
            if op.kind in CARRIES_DATA:
                op.payload = output.put(op.digest, data)
        ops = as_recorded([many[place][0] for place in order or range(len(many))])
        output.write([pack_op(op) for op in ops if isinstance(op, Op)])
        for settle in settled:
            output.settle(settle)
    return path
