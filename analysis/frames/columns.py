"""The columns of a frame of ops, made from records without a Python loop over ops.

Units: offset and length are bytes, sectors are 512 bytes, times are ns since the trace's start.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from os import cpu_count

import numpy as np
import polars as pl

from analysis.frames.layout import Array, Batch
from analysis.frames.records import OpRecords
from tracer.op import KIND_BY_NUMBER, MUTATING, SECTOR, Kind

KINDS = pl.Enum([kind.label for kind in Kind])
"""The dtype of the column ``kind``."""

WRITERS = [kind.label for kind in Kind if kind in MUTATING]
"""The kinds that change data."""

OPS = pl.Schema(
    {
        "seq": pl.Int64(),
        "kind": KINDS,
        "offset": pl.Int64(),
        "length": pl.Int64(),
        "sector": pl.Int64(),
        "sectors": pl.Int64(),
        "flags": pl.UInt16(),
        "submitted": pl.Int64(),
        "completed": pl.Int64(),
        "latency": pl.Int64(),
        "in_flight": pl.Int64(),
        "status": pl.UInt16(),
        "reference_ns": pl.Int64(),
        "test_ns": pl.Int64(),
        "digest": pl.Binary(),
        "connection": pl.UInt32(),
    }
)
"""The columns of ``Frames.ops``. Integers that are likely to be subtracted are signed."""

ALL = pl.Schema(
    {
        **OPS,
        "reference_status": pl.UInt16(),
        "test_status": pl.UInt16(),
        "payload": pl.UInt64(),
    }
)
"""Every column that can be decoded: also the errno of each side, and the payload's position in the
payload store."""

_KIND_INDEX = np.zeros(256, np.uint32)
_KIND_INDEX[list(KIND_BY_NUMBER)] = range(len(KIND_BY_NUMBER))
_KIND_NAMES = pl.Series([kind.label for kind in Kind], dtype=KINDS)
"""The labels of the kinds, and by kind number the index of its label."""


def _sectors(offset: Array, length: Array) -> Array:
    sectors: Array = ((offset + length + SECTOR - 1) // SECTOR - offset // SECTOR) * (length > 0)
    return sectors


def _unless_never(completed: Array, values: Array) -> pl.Series:
    """Return the values, with null for ops that never completed."""
    found, never = pl.Series(values), completed < 0
    return found.set(pl.Series(never), None) if never.any() else found


def _digest(digest: Array) -> pl.Series:
    octets = pl.Series(digest.view(np.uint8).reshape(-1, 16), dtype=pl.Array(pl.UInt8, 16))
    return octets.arr.to_list().cast(pl.Binary)


_MADE: dict[str, tuple[tuple[str, ...], Callable[..., Array | pl.Series]]] = {
    "kind": (("kind",), lambda kind: _KIND_NAMES.gather(pl.Series(np.take(_KIND_INDEX, kind)))),
    "sector": (("offset",), lambda offset: offset // SECTOR),
    "sectors": (("offset", "length"), _sectors),
    "completed": (("completed",), lambda completed: _unless_never(completed, completed)),
    "latency": (
        ("completed", "submitted"),
        lambda completed, submitted: _unless_never(completed, completed - submitted),
    ),
    "status": (
        ("test_status", "reference_status"),
        lambda test, reference: np.array(np.where(test != 0, test, reference)),
    ),
    "digest": (("digest",), _digest),
    "payload": (("payload",), lambda payload: payload.view(np.uint64)),
}
"""The fields that a column is made from, and the function that makes it. Other columns are fields
as they are."""


def decode(records: OpRecords, ops: Batch, columns: Iterable[str]) -> pl.DataFrame:
    """Decode some columns of ALL for a batch of ops."""
    made = {name: _MADE.get(name, ((name,), lambda values: values)) for name in columns}
    if "in_flight" in made:
        made["in_flight"] = ("submitted", "kind"), records.in_flight
    found = ops.fields({field for needed, _ in made.values() for field in needed})
    return pl.DataFrame(
        [
            pl.Series(name, make(*(found[field] for field in needed)))
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
