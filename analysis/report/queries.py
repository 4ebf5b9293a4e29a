"""What a report asks of a trace. Each answer is short, however long the trace is."""

from collections.abc import Collection

import polars as pl

from analysis.frames import WRITERS, Recording
from tracer.op import SECTOR

AROUND = 10
"""Ops before and after the one that matters."""

BEFORE, AFTER = 6, 4
"""Ops in a sector's history: the last up to a moment, and the first after it."""

_TOUCHING = ["read", *WRITERS]
_COLUMNS = ("seq", "kind", "offset", "length", "flags", "submitted", "completed", "latency", "status")


def around(recording: Recording, seq: int) -> pl.DataFrame:
    """The ops whose numbers are nearest to ``seq``, by number."""
    near = pl.col("seq").is_between(seq - AROUND, seq + AROUND)
    return recording.ops.filter(near).select(*_COLUMNS).collect()


def history(
    recording: Recording, sector: int, moment: int, also: Collection[int]
) -> tuple[pl.DataFrame, int | None, int]:
    """A sector's history around a moment: the ops, which of them wrote what it should hold then, and how
    many more touched it. ``also`` are numbers of ops that belong to it wherever they lie."""
    start, length, seq = pl.col("offset"), pl.col("length"), pl.col("seq")
    # numbers first and ops after: a sector may have been touched by every op of a long trace
    touching = (
        recording.ops.filter(
            start < (sector + 1) * SECTOR, start + length > sector * SECTOR, length > 0,
            pl.col("kind").is_in(_TOUCHING),
        )
        .select("seq", wrote=pl.col("kind").is_in(WRITERS) & (pl.col("status") == 0))
        .collect()
    )  # fmt: skip
    early, late = touching.filter(seq <= moment), touching.filter(seq > moment)
    writer = early.filter("wrote")["seq"].max()
    assert writer is None or isinstance(writer, int)
    chosen = {*early["seq"].tail(BEFORE), *late["seq"].head(AFTER), *also}
    if writer is not None:
        chosen.add(writer)
    found = recording.ops.filter(seq.is_in(sorted(chosen))).select(*_COLUMNS).collect()
    return found, writer, len(touching) - len(touching.filter(seq.is_in(sorted(chosen))))


def by_kind(recording: Recording) -> pl.DataFrame:
    """For each kind: ``count``, ``bytes``, ``failed``; ``median``, ``high`` (99 %) and ``most`` of the
    latency, and the medians of ``reference_ns`` and ``test_ns``, in ns."""
    latency = pl.col("latency")
    return (
        recording.ops.group_by("kind")
        .agg(
            count=pl.len(),
            bytes=pl.col("length").sum(),
            failed=(pl.col("status") != 0).sum(),
            median=latency.median(),
            high=latency.quantile(0.99, "nearest"),
            most=latency.max(),
            reference=pl.col("reference_ns").median(),
            test=pl.col("test_ns").median(),
        )
        .sort("kind")
        .collect()
    )
