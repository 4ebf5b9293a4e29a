"""Records of every kind, by chance and by hand, and files made of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tracer.op import FLAGS_OF, NO_PAYLOAD, NO_SEQ, NO_TIME, Fault, Kind, Op
from tracer.trace.file import Trace, TraceWriter
from tracer.trace.header import Header
from tracer.trace.records import (
    KNOWN_FLAGS,
    MAX_LENGTH,
    MAX_MARK,
    End,
    Mark,
    Mismatch,
    Record,
    Restart,
    Settle,
    pack_op,
)

# the file is written anew by every example
rewritten = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


SIZE = 1 << 40


u16, u32, u63, u64 = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 63, 64))


digests = st.binary(min_size=16, max_size=16)


def flags_of(kind: int) -> st.SearchStrategy[int]:
    """Any flags that an op of a kind may have."""
    return st.integers(0, KNOWN_FLAGS).map(lambda flags: flags & FLAGS_OF[kind])


def places(kind: int, length: int, size: int = SIZE) -> st.SearchStrategy[int]:
    """Any offset that an op may have."""
    return st.just(0) if kind == Kind.FLUSH else st.integers(0, size - length)


@st.composite
def ops(draw: st.DrawFn) -> Op:
    kind = int(draw(st.sampled_from(Kind)))
    limit = MAX_LENGTH["data" if kind in (Kind.READ, Kind.WRITE, Kind.START) else "other"]
    length = 0 if kind == Kind.FLUSH else draw(st.integers(1, limit))
    submitted = draw(u63)
    return Op(
        draw(u63), kind, draw(flags_of(kind)), draw(places(kind, length)), length,
        submitted, draw(st.integers(submitted, (1 << 63) - 1) | st.just(NO_TIME)), draw(u63),
        draw(u63), draw(u16), draw(u16), draw(u32), draw(u64), draw(digests),
    )  # fmt: skip


@st.composite
def mismatches(draw: st.DrawFn) -> Mismatch:
    length = draw(st.integers(0, SIZE))
    return Mismatch(
        draw(u63), int(draw(st.sampled_from(Fault))), draw(st.integers(0, SIZE - length)), length,
        draw(u16), draw(u16), draw(u63), draw(u64), draw(digests),
    )  # fmt: skip


def short(limit: int) -> st.SearchStrategy[str]:
    characters = st.characters(codec="utf-8", exclude_characters="\0")
    return st.text(characters, max_size=limit).filter(lambda name: len(name.encode()) <= limit)


marks = st.builds(Mark, u63, u63, short(MAX_MARK))


restarts = st.builds(Restart, u63, u63, short(MAX_MARK))


@st.composite
def settles(draw: st.DrawFn) -> Settle:
    length = draw(st.integers(1, SIZE))
    return Settle(
        draw(u63), draw(st.integers(0, SIZE - length)), length, draw(u63 | st.just(NO_SEQ)),
        draw(u63), draw(digests),
    )  # fmt: skip


ends = st.builds(End, u63, u63, u63, st.sampled_from(["clean", "damaged", "failed", "undecidable"]))


OP = Op(5, int(Kind.WRITE), 1, 4096, 512, 10, 20, 3, 4, 0, 0, 1, 77, b"d" * 16)


SOME: list[Record] = [
    OP,
    Mark(6, 25, "boot done"),
    replace(OP, seq=6, kind=int(Kind.FLUSH), offset=0, length=0),
    Mismatch(6, Fault.DATA, 4096, 512, 0, 5, 30, NO_PAYLOAD, b"e" * 16),
]


def write(path: Path, records: list[Any], header: Header | None = None) -> Path:
    """Write a trace; it is closed where the last record is an End."""
    writer = TraceWriter(path, header or Header(SIZE))
    for record in records:
        if isinstance(record, Op):
            writer.write([pack_op(record)])
        elif isinstance(record, Mark):
            writer.mark(record)
        elif isinstance(record, Mismatch):
            writer.mismatch(record)
        elif isinstance(record, Settle):
            writer.settle(record)
        elif isinstance(record, Restart):
            writer.restart(record)
        else:
            writer.close(record)
            return path
    writer.abandon()
    return path


def read(path: Path) -> list[Record]:
    with Trace(path) as trace:
        return list(trace.records())
