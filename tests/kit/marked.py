"""Traces with marks."""

from pathlib import Path

from tracer.op import Kind, Op
from tracer.trace.file import TraceWriter
from tracer.trace.header import Header
from tracer.trace.records import End, Mark, pack_op


def write_marked(
    path: Path, count: int, placed: list[tuple[int, str]], *, closed: bool = True
) -> Path:
    writer = TraceWriter(path, Header(4096, "hash"))
    for seq in range(count):
        if closed or seq != 2:  # a killed recorder has no record of what was in flight
            writer.write([pack_op(Op(seq, int(Kind.WRITE), 0, 0, 512, seq * 10, seq * 10 + 5))])
    for seq, name in placed:
        writer.mark(Mark(seq, 1, name))
    if closed:
        writer.close(End(count, 0, 100, "clean"))
    else:
        writer.abandon()
    return path
