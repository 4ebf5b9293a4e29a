"""A look at a trace before its cells run: its digest, and how much a run may write."""

from pathlib import Path

import msgpack
from blake3 import blake3
from msgspec.structs import replace

from blkbox.matrices.model import MatrixOptions, TraceRow
from blkbox.matrices.places import is_url, local_trace
from replay.generate.profiles import Profile
from replay.generate.writing import GENERATOR
from tracer.errors import BlkboxError, TraceError
from tracer.op import Kind
from tracer.trace.file import BLOCK, Trace
from tracer.trace.records import Tag


def generated(row: TraceRow, profile: Profile, options: MatrixOptions) -> TraceRow:
    """Return a trace that is generated with its digest: the arguments decide the content."""
    written = min(options.size, options.ops * profile.data_per_op)
    made = msgpack.packb([GENERATOR, repr(profile), row.seed, options.ops, options.size])
    return replace(
        row, digest=blake3(made).hexdigest(16), size=options.size, ops=options.ops,
        written=written,
    )  # fmt: skip


def survey(row: TraceRow) -> TraceRow:
    """Read a trace; return it with its digest, its size and what a run may write. A trace that
    cannot be read has a ``problem``."""
    assert row.where is not None
    try:
        path = local_trace(row.where)
        return replace(read(row, path), stamp=stamp_of(row.where))
    except (BlkboxError, OSError) as error:
        return replace(row, problem=str(error))


def stamp_of(where: str) -> list[int]:
    """Return what changes when a local file does: its size, and its time of change in ns. A URL has
    nothing. Raises OSError."""
    if is_url(where):
        return []
    stat = Path(where).stat()
    return [stat.st_size, stat.st_mtime_ns]


def read(row: TraceRow, path: Path) -> TraceRow:
    """Return a trace with its digest, its size and what a run may write. The digests in its ops
    stand for the payloads. Raises TraceError, OSError."""
    import numpy as np

    from analysis.frames.layout import OP_DTYPE

    state, ops, written = blake3(), 0, 0
    with Trace(path) as trace:
        with path.open("rb") as file:
            state.update(file.read(trace.records_at))
        for first in range(0, trace.count, BLOCK):
            block = trace.read(first, BLOCK)
            if not block:
                raise TraceError(f"{path} changed while it was read")
            state.update(block)
            records = np.frombuffer(block, OP_DTYPE)
            is_op = records["tag"] == Tag.OP
            ops += int(is_op.sum())
            # a zero or a trim may take room too, but seldom what it covers
            brings = is_op & np.isin(records["kind"], (int(Kind.WRITE), int(Kind.START)))
            written += int(records["length"][brings].sum(dtype=np.uint64))
        size = trace.header.size
    return replace(
        row, digest=state.hexdigest(16), size=size, ops=ops, written=min(written, size)
    )  # fmt: skip
