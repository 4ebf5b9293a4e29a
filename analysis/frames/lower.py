"""A NAME.lower as frames: what the driver did to its image file, and for which op of the guest."""

from pathlib import Path

import polars as pl

from tracer.below.events import Done, Sent
from tracer.below.op import LowerKind
from tracer.below.stream import lower_path, read_lower
from tracer.errors import TraceError
from tracer.op import NO_TIME

KINDS = pl.Enum([kind.label for kind in LowerKind])

NS = pl.Duration("ns")

LOWER = pl.Schema({
    "number": pl.Int64(),
    "kind": KINDS,
    "offset_bytes": pl.Int64(),
    "length_bytes": pl.Int64(),
    "fua": pl.Boolean(),
    "error": pl.UInt16(),
    "digest": pl.Binary(),
    "time": NS,
    "after": NS,
    "before": NS,
    "in_flight": pl.List(pl.Int64()),
    "cause": pl.Int64(),
})  # fmt: skip
"""The columns of ``lower``."""

WRITES = frozenset({LowerKind.WRITE, LowerKind.ZERO})


def lower(trace: Path, trace_id: str) -> pl.DataFrame:
    """Return the lower ops beside a trace, in their order.

    ``time`` is when it was done, null if its log does not say. ``after`` and ``before`` are when
    the last event before a lower op happened and the first after it. ``in_flight`` has the seqs of
    the guest's ops in flight, ``cause`` that op if it is the only one. Raises TraceError if there
    is no NAME.lower, it is another trace's, or damaged.
    """
    path = lower_path(trace)
    if not path.exists():
        raise TraceError(f"there is no {path} beside the trace: trace replay --below writes one")
    header, events = read_lower(path)
    if header.trace != trace_id:
        raise TraceError(f"{path} belongs to another trace")
    rows: list[tuple[object, ...]] = []
    in_flight: list[int] = []
    now: int | None = None
    open_: list[int] = []  # rows whose next event has not come
    before: dict[int, int] = {}
    for event in events:
        if isinstance(event, Sent | Done):
            now = event.time
            before.update((row, event.time) for row in open_)
            open_ = []
            if isinstance(event, Sent):
                in_flight.append(event.seq)
            elif event.seq in in_flight:
                in_flight.remove(event.seq)
            continue
        open_.append(len(rows))
        cause = in_flight[0] if len(in_flight) == 1 else None
        rows.append((
            event.number, event.kind.label, event.offset, event.length, event.fua, event.error,
            event.digest, None if event.time == NO_TIME else event.time, now, None,
            sorted(in_flight), cause,
        ))  # fmt: skip
    found = pl.DataFrame(rows, schema=LOWER, orient="row")
    ends = pl.Series("before", [before.get(row) for row in range(len(rows))], dtype=NS)
    return found.with_columns(ends)


def amplification(ops: pl.LazyFrame, below: pl.DataFrame) -> pl.DataFrame:
    """Return a row with what the guest wrote and what the driver wrote for it, in bytes, and the
    ratio (null if the guest wrote nothing): the write amplification.

    Zeroes count where they are written, not where they are discarded.
    """
    guest = int(ops.filter(pl.col("kind").cast(pl.String) == "write")
                .select(pl.col("length_bytes").sum()).collect().item() or 0)  # fmt: skip
    done = below.filter((pl.col("error") == 0) & pl.col("kind").cast(pl.String).is_in(
        [kind.label for kind in WRITES]))  # fmt: skip
    driver = int(done["length_bytes"].sum())
    data = int(done.filter(pl.col("kind") == "write")["length_bytes"].sum())
    flushes = below.filter(pl.col("kind") == "flush").height
    return pl.DataFrame({
        "guest_bytes": [guest], "lower_bytes": [driver], "lower_data_bytes": [data],
        "amplification": [data / guest if guest else None], "lower_flushes": [flushes],
    })  # fmt: skip


def caused(below: pl.DataFrame) -> pl.DataFrame:
    """Return for each op of the guest the lower ops that came while it alone was in flight: how
    many, the bytes that they wrote, and how many flushes. Sorted by seq."""
    writes = pl.col("kind").cast(pl.String).is_in([kind.label for kind in WRITES])
    return (
        below.filter(pl.col("cause").is_not_null())
        .group_by(seq="cause")
        .agg(
            lower_ops=pl.len().cast(pl.Int64),
            lower_bytes=pl.col("length_bytes").filter(writes).sum(),
            lower_flushes=(pl.col("kind") == "flush").sum().cast(pl.Int64),
        )
        .sort("seq")
    )
