"""The columns of a frame of ops, made of records without a loop over them.

Units: offset and length are bytes, sectors are 512 bytes, times are ns since the trace's start.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from os import cpu_count
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from analysis.records import OpRecords, Ops
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
        "digest": pl.String(),
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

Array = npt.NDArray[Any]


def _ints(ops: Ops, name: str) -> Array:
    return ops[name].astype(np.int64)


def _sectors(ops: Ops) -> Array:
    offset, length = _ints(ops, "offset"), _ints(ops, "length")
    return ((offset + length + SECTOR - 1) // SECTOR - offset // SECTOR) * (length > 0)


def _completed(ops: Ops, since: Array | int = 0) -> pl.Series:
    """When ops were done, counted from some moment; null where they never were."""
    completed = _ints(ops, "completed")
    never = completed < 0  # NO_TIME, as a signed number
    found = pl.Series(completed - since)
    return found.set(pl.Series(never), None) if never.any() else found


def _digest(ops: Ops) -> pl.Series:
    octets = np.ascontiguousarray(ops["digest"]).view(np.uint8).reshape(-1, 16)
    return pl.Series(octets, dtype=pl.Array(pl.UInt8, 16)).arr.to_list().cast(pl.Binary).bin.encode("hex")


_MADE: dict[str, Callable[[Ops], Array | pl.Series]] = {
    "kind": lambda ops: _KIND_NAMES.gather(pl.Series(_KIND_INDEX[ops["kind"]])),
    "sector": lambda ops: _ints(ops, "offset") // SECTOR,
    "sectors": _sectors,
    "completed": _completed,
    "latency": lambda ops: _completed(ops, _ints(ops, "submitted")),
    "status": lambda ops: np.where(
        ops["test_status"] != 0, ops["test_status"], ops["reference_status"]
    ).astype(np.uint16),
    "digest": _digest,
}
"""How a column is made of records, where it is not a field of them as it is."""

_NATIVE = {
    name: np.dtype(str(dtype).lower()) for name, dtype in ALL.items() if dtype.is_integer()
}


def decode(records: OpRecords, ops: Ops, columns: Iterable[str]) -> pl.DataFrame:
    """Columns of ALL for some ops of a trace's records."""

    def column(name: str) -> Array | pl.Series:
        if name == "in_flight":
            return records.in_flight(ops)
        make = _MADE.get(name)
        return make(ops) if make is not None else ops[name].astype(_NATIVE[name])

    return pl.DataFrame({name: column(name) for name in columns}, schema_overrides=ALL)


def ahead(function: Callable[[Ops], pl.DataFrame], batches: Iterable[Ops]) -> Iterator[pl.DataFrame]:
    """A frame for each batch, made on all CPUs, a few batches ahead of who takes them."""
    workers = cpu_count() or 1
    waiting: deque[Future[pl.DataFrame]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for batch in batches:
            waiting.append(pool.submit(function, batch))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
