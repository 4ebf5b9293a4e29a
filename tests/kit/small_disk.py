"""Ops on a small disk, with what each brings."""

from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.kit.data import pattern
from tests.kit.traces import as_recorded
from tracer.digest import digest
from tracer.op import CARRIES_DATA, SECTOR, Kind, Op
from tracer.trace.header import Header
from tracer.trace.output import TraceOutput
from tracer.trace.records import pack_op

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


def write(
    path: Path, many: list[tuple[Op, bytes]], order: list[int] | None = None, **header: Any
) -> Path:
    """A trace of ops and what they bring, its records in some order."""
    with TraceOutput(path, Header(SIZE, **header)) as output:
        for op, data in many:
            if op.kind in CARRIES_DATA:
                op.payload = output.put(op.digest, data)
        ops = as_recorded([many[place][0] for place in order or range(len(many))])
        output.write([pack_op(op) for op in ops if isinstance(op, Op)])
    return path
