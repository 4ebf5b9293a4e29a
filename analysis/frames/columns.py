"""The columns of a frame of ops, made from records without a Python loop over ops.

A column's unit is in its name or its dtype: bytes, sectors of 512 bytes, durations.
docs/analysis.md describes every column.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from os import cpu_count
from typing import TypeVar

import numpy as np
import polars as pl

from analysis.frames.layout import Array, Batch
from analysis.frames.records import OpRecords
from tracer.op import KIND_BY_NUMBER, MUTATING, SECTOR, Fault, Kind, flag_names
from tracer.trace.records import KNOWN_FLAGS

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)

KINDS = pl.Enum([kind.label for kind in Kind])
"""The dtype of the column ``kind``."""

WRITERS = [kind.label for kind in Kind if kind in MUTATING]
"""The kinds that change data."""

TIME = pl.Duration("ns")
"""The dtype of times, which count from the trace's start, and of what took time."""

OPS = pl.Schema(
    {
        "seq": pl.Int64(),
        "kind": KINDS,
        "offset_bytes": pl.Int64(),
        "length_bytes": pl.Int64(),
        "sector": pl.Int64(),
        "sectors": pl.Int64(),
        "flags": pl.String(),
        "submitted": TIME,
        "completed": TIME,
        "latency": TIME,
        "in_flight": pl.Int64(),
        "status": pl.UInt16(),
        "reference_took": TIME,
        "test_took": TIME,
        "digest": pl.Binary(),
        "connection": pl.UInt32(),
    }
)
"""The columns of ``Frames.ops``. Integers that are likely to be subtracted are signed."""

MARKS = pl.Schema({"seq": pl.Int64(), "time": TIME, "name": pl.String()})
"""The columns of ``Frames.marks``."""

MISMATCHES = pl.Schema(
    {
        "seq": pl.Int64(),
        "fault": pl.Enum([fault.label for fault in Fault]),
        "offset_bytes": pl.Int64(),
        "length_bytes": pl.Int64(),
        "expected_status": pl.UInt16(),
        "actual_status": pl.UInt16(),
        "time": TIME,
        "digest": pl.Binary(),
    }
)
"""The columns of ``Frames.mismatches``."""

SETTLES = pl.Schema(
    {
        "seq": pl.Int64(),
        "offset_bytes": pl.Int64(),
        "length_bytes": pl.Int64(),
        "winner": pl.Int64(),
        "time": TIME,
        "digest": pl.Binary(),
    }
)
"""The columns of ``Frames.settles``."""

RESTARTS = pl.Schema({"seq": pl.Int64(), "time": TIME, "why": pl.String()})
"""The columns of ``Frames.restarts``."""

ALL = pl.Schema(
    {
        **OPS,
        "flag_bits": pl.UInt16(),
        "reference_status": pl.UInt16(),
        "test_status": pl.UInt16(),
        "payload": pl.UInt64(),
    }
)
"""Every column that can be decoded: also the bits of ``tracer.op.Flag``, the errno of each side,
and the payload's position in the payload store."""

FLAG_SEPARATOR = "|"
"""Between the names in the column ``flags``."""

_KIND_INDEX = np.zeros(256, np.uint32)
_KIND_INDEX[list(KIND_BY_NUMBER)] = range(len(KIND_BY_NUMBER))
_KIND_NAMES = pl.Series([kind.label for kind in Kind], dtype=KINDS)
"""The labels of the kinds, and by kind number the index of its label."""


def _sectors(offset: Array, length: Array) -> Array:
    sectors: Array = ((offset + length + SECTOR - 1) // SECTOR - offset // SECTOR) * (length > 0)
    return sectors


_FLAG_NAMES = pl.Series(
    [FLAG_SEPARATOR.join(flag_names(bits)) for bits in range(KNOWN_FLAGS + 1)], dtype=pl.String
)
"""The names of every combination of flags. A record with others is refused."""


def _unless(missing: Array, values: Array) -> pl.Series:
    """Return the values, with null where they are missing."""
    found = pl.Series(values)
    return found.set(pl.Series(missing), None) if missing.any() else found


def _measured(took: Array) -> pl.Series:
    """Return how long something took, with null for 0 ns: nothing takes no time."""
    return _unless(took == 0, took)


def _unknown(submitted: Array) -> pl.Series:
    """Return null for each op."""
    return pl.repeat(None, len(submitted), dtype=pl.Int64, eager=True)


def _digest(digest: Array) -> pl.Series:
    octets = pl.Series(digest.view(np.uint8).reshape(-1, 16), dtype=pl.Array(pl.UInt8, 16))
    return octets.arr.to_list().cast(pl.Binary)


_MADE: dict[str, tuple[tuple[str, ...], Callable[..., Array | pl.Series]]] = {
    "kind": (("kind",), lambda kind: _KIND_NAMES.gather(pl.Series(np.take(_KIND_INDEX, kind)))),
    "offset_bytes": (("offset",), lambda offset: offset),
    "length_bytes": (("length",), lambda length: length),
    "flags": (("flags",), lambda flags: _FLAG_NAMES.gather(pl.Series(flags))),
    "flag_bits": (("flags",), lambda flags: flags),
    "sector": (("offset",), lambda offset: offset // SECTOR),
    "sectors": (("offset", "length"), _sectors),
    "completed": (("completed",), lambda completed: _unless(completed < 0, completed)),
    "latency": (
        ("completed", "submitted"),
        lambda completed, submitted: _unless(completed <= submitted, completed - submitted),
    ),
    "status": (
        ("test_status", "reference_status"),
        lambda test, reference: np.array(np.where(test != 0, test, reference)),
    ),
    "reference_took": (("reference_ns",), _measured),
    "test_took": (("test_ns",), _measured),
    "digest": (("digest",), _digest),
    "payload": (("payload",), lambda payload: payload.view(np.uint64)),
}
"""The fields that a column is made from, and the function that makes it. Other columns are fields
as they are."""


def in_ns(frame: Frame) -> Frame:
    """Return a frame with its durations as integers: ns. (polars turns a duration into a timedelta,
    which has no ns, once it leaves the frame.)"""
    durations = pl.selectors.duration()
    return frame.with_columns(durations.to_physical())


def decode(records: OpRecords, ops: Batch, columns: Iterable[str]) -> pl.DataFrame:
    """Decode some columns of ALL for a batch of ops."""
    made = {name: _MADE.get(name, ((name,), lambda values: values)) for name in columns}
    if "in_flight" in made:
        made["in_flight"] = ("submitted", "kind"), records.in_flight
    if not records.timed:
        for name in made.keys() & {"latency", "in_flight"}:
            made[name] = ("submitted",), _unknown
    found = ops.fields({field for needed, _ in made.values() for field in needed})
    return pl.DataFrame(
        [
            # an integer becomes a duration without a copy
            pl.Series(name, make(*(found[field] for field in needed))).cast(ALL[name])
            for name, (needed, make) in made.items()
        ]
    )


def ahead(
    function: Callable[[Batch], pl.DataFrame], batches: Iterable[Batch]
) -> Iterator[pl.DataFrame]:
    """Yield a frame for each batch. The frames are made on all CPUs, a few batches ahead."""
    workers = cpu_count() or 1
    waiting: deque[Future[pl.DataFrame]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for batch in batches:
            waiting.append(pool.submit(function, batch))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # do not wait: a caller that stops early may drop this generator in a thread of the pool
        pool.shutdown(wait=False, cancel_futures=True)
