"""The columns of a frame of ops, made of records without a loop over them.

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
"""The type of the column ``kind``."""

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
"""The columns of ``Recording.ops``. Integers are signed where people subtract them."""

ALL = pl.Schema(
    {
        **OPS,
        "reference_status": pl.UInt16(),
        "test_status": pl.UInt16(),
        "payload": pl.UInt64(),
    }
)
"""All that can be read: also each side's errno, and where the payload is in the store."""

_KIND_INDEX = np.zeros(256, np.uint32)
_KIND_INDEX[list(KIND_BY_NUMBER)] = range(len(KIND_BY_NUMBER))
_KIND_NAMES = pl.Series([kind.label for kind in Kind], dtype=KINDS)
"""Each kind's label, and where it is, by the kind's number."""


def _sectors(offset: Array, length: Array) -> Array:
    sectors: Array = ((offset + length + SECTOR - 1) // SECTOR - offset // SECTOR) * (length > 0)
    return sectors


def _unless_never(completed: Array, values: Array) -> pl.Series:
    """Null where an op never completed."""
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
"""How a column is made of fields of records, where it is not a field as it is."""


def decode(records: OpRecords, ops: Batch, columns: Iterable[str]) -> pl.DataFrame:
    """Columns of ALL for some ops of a trace's records."""
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
    """A frame for each batch, made on all CPUs, a few batches ahead of who takes them."""
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
        # without waiting: who takes no more may drop this in one of the pool's own threads
        pool.shutdown(wait=False, cancel_futures=True)
