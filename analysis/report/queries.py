"""A report's queries on a trace. Each result is short, however long the trace is."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis.frames.columns import in_ns
from analysis.frames.frames import WRITERS, Frames

AROUND = 10
"""Ops shown before and after the op in focus."""

BEFORE, AFTER = 6, 4
"""Ops in a sector's history: the last before a moment, and the first after it."""

STEPS = 32
"""Steps of time per factor of two. Each step is 2.2 % longer than the step before, so the middle of
a step is off by at most 1.1 %."""

_TOUCHING = ["read", *WRITERS]
_COLUMNS = (
    "seq",
    "kind",
    "offset_bytes",
    "length_bytes",
    "flags",
    "submitted",
    "completed",
    "latency",
    "status",
)


def around(recording: Frames, seq: int) -> pl.DataFrame:
    """Return the ops whose numbers are nearest to ``seq``, by number. Times are ns."""
    near = pl.col("seq").is_between(seq - AROUND, seq + AROUND)
    return in_ns(recording.ops.filter(near).select(*_COLUMNS).collect())


def history(
    recording: Frames, sector: int, moment: int, also: Collection[int]
) -> tuple[pl.DataFrame, int | None, int]:
    """Return a sector's history around op ``moment``.

    The result is the ops (times are ns), the number of the op that wrote what the sector should
    hold at that moment, and how many more ops touched the sector. ``also`` has numbers of ops to
    include anyway.
    """
    seq = pl.col("seq")
    # find the numbers first, then the ops: every op of a long trace may have touched the sector
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
    found = in_ns(recording.ops.filter(seq.is_in(sorted(chosen))).select(*_COLUMNS).collect())
    return found, writer, len(touching) - len(touching.filter(seq.is_in(sorted(chosen))))


def by_kind(recording: Frames) -> list[dict[str, Any]]:
    """Return a row for each kind of op in the trace.

    It has ``kind``, ``count``, ``bytes``, ``failed``, ``most`` (the longest latency in ns), and
    Quantiles for each of ``latency``, ``reference_took`` and ``test_took``.
    """
    counted = (
        recording.ops.group_by("kind")
        .agg(
            count=pl.len(),
            bytes=pl.col("length_bytes").sum(),
            failed=(pl.col("status") != 0).sum(),
            most=pl.col("latency").max().to_physical(),
        )
        .sort("kind")
        .collect(engine="streaming")
    )
    columns = ("latency", "reference_took", "test_took")
    times = {column: _times(recording, column) for column in columns}
    return [
        row | {column: times[column].get(row["kind"], _NEVER) for column in columns}
        for row in counted.rows(named=True)
    ]


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Quantiles of times in ns, to about 1 %; None if no op completed."""

    median: float | None
    high: float | None
    """The time that 99 % of ops did not exceed."""


_NEVER = Quantiles(None, None)


def _times(recording: Frames, column: str) -> dict[str, Quantiles]:
    """Return quantiles by kind, from counts of ops per step of time.

    Exact quantiles would need all values in memory.
    """
    found = (
        recording.ops.filter(pl.col(column).is_not_null())
        .group_by(
            "kind", step=(pl.col(column).to_physical().cast(pl.Float64).log(2) * STEPS).floor()
        )
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
