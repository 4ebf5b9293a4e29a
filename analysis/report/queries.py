"""What a report asks of a trace. Each answer is short, however long the trace is."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis.frames.frames import WRITERS, Frames

AROUND = 10
"""Ops before and after the one that matters."""

BEFORE, AFTER = 6, 4
"""Ops in a sector's history: the last up to a moment, and the first after it."""

STEPS = 32
"""Steps of time to the octave: each is 2.2 % longer than the one before, so its middle is 1.1 % off at
most."""

_TOUCHING = ["read", *WRITERS]
_COLUMNS = (
    "seq",
    "kind",
    "offset",
    "length",
    "flags",
    "submitted",
    "completed",
    "latency",
    "status",
)


def around(recording: Frames, seq: int) -> pl.DataFrame:
    """The ops whose numbers are nearest to ``seq``, by number."""
    near = pl.col("seq").is_between(seq - AROUND, seq + AROUND)
    return recording.ops.filter(near).select(*_COLUMNS).collect()


def history(
    recording: Frames, sector: int, moment: int, also: Collection[int]
) -> tuple[pl.DataFrame, int | None, int]:
    """A sector's history around a moment: the ops, which of them wrote what it should hold then, and how
    many more touched it. ``also`` are numbers of ops that belong to it wherever they lie."""
    seq = pl.col("seq")
    # numbers first and ops after: a sector may have been touched by every op of a long trace
    touching = (
        recording.touching(sector)
        .filter(pl.col("kind").is_in(_TOUCHING))
        .select("seq", wrote=pl.col("kind").is_in(WRITERS) & (pl.col("status") == 0))
        .collect()
    )
    early, late = touching.filter(seq <= moment), touching.filter(seq > moment)
    writer = early.filter("wrote")["seq"].max()
    assert writer is None or isinstance(writer, int)
    chosen = {*early["seq"].tail(BEFORE), *late["seq"].head(AFTER), *also}
    if writer is not None:
        chosen.add(writer)
    found = recording.ops.filter(seq.is_in(sorted(chosen))).select(*_COLUMNS).collect()
    return found, writer, len(touching) - len(touching.filter(seq.is_in(sorted(chosen))))


def by_kind(recording: Frames) -> list[dict[str, Any]]:
    """For each kind that there is: ``kind``, ``count``, ``bytes``, ``failed``, ``most``, the longest
    latency in ns, and Quantiles for each of ``latency``, ``reference_ns`` and ``test_ns``."""
    counted = (
        recording.ops.group_by("kind")
        .agg(
            count=pl.len(),
            bytes=pl.col("length").sum(),
            failed=(pl.col("status") != 0).sum(),
            most=pl.col("latency").max(),
        )
        .sort("kind")
        .collect(engine="streaming")
    )
    columns = ("latency", "reference_ns", "test_ns")
    times = {column: _times(recording, column) for column in columns}
    return [
        row | {column: times[column].get(row["kind"], _NEVER) for column in columns}
        for row in counted.rows(named=True)
    ]


@dataclass(frozen=True, slots=True)
class Quantiles:
    """In ns, to about 1 %; None where no op completed."""

    median: float | None
    high: float | None
    """99 % took no longer."""


_NEVER = Quantiles(None, None)


def _times(recording: Frames, column: str) -> dict[str, Quantiles]:
    """Quantiles by kind, from counts in steps of STEPS to the octave: exact ones would take all values
    into memory."""
    found = (
        recording.ops.filter(pl.col(column).is_not_null())
        .group_by("kind", step=(pl.col(column).cast(pl.Float64).log(2) * STEPS).floor())
        .agg(count=pl.len())
        .sort("kind", "step")
        .collect(engine="streaming")
    )
    times = {}
    for (kind,), counts in found.group_by("kind", maintain_order=True):
        passed = counts["count"].cum_sum()
        median, high = (
            2 ** ((counts["step"][int((passed < part * passed[-1]).sum())] + 0.5) / STEPS)
            for part in (0.5, 0.99)
        )
        times[str(kind)] = Quantiles(median, high)
    return times
