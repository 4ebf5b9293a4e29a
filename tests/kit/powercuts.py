"""Small traces for power cuts: ops one after another, each write with data of its own."""

from collections.abc import Container
from pathlib import Path

from tracer.digest import digest
from tracer.op import CARRIES_DATA, Kind, Op
from tracer.trace.file import TraceWriter
from tracer.trace.header import Header
from tracer.trace.records import End, Restart, pack_op

KIB = 1024
SIZE = 4 << 20

Request = tuple[Kind, int, int, int]
"""Kind, offset and length in bytes, flags."""

FLUSH: Request = (Kind.FLUSH, 0, 0, 0)


def serial(
    path: Path, requests: list[Request], size: int = SIZE, restarts: Container[int] = ()
) -> Path:
    """A trace without data, of requests of which each was done before the next was sent. Before
    those that ``restarts`` has, the driver was restarted."""
    writer = TraceWriter(path, Header(size, payloads="hash"))
    for seq, (kind, offset, length, flags) in enumerate(requests):
        if seq in restarts:
            writer.restart(Restart(seq, seq * 10, "test"))
        op = Op(seq, int(kind), int(flags), offset, length, seq * 10, seq * 10 + 5)
        if kind in CARRIES_DATA:
            op.digest = digest(f"{seq}".encode())
        op.connection = 1
        writer.write([pack_op(op)])
    writer.close(End(len(requests), 0, len(requests) * 10, "clean"))
    return path
