"""A trace as polars frames.

A column is decoded when a query asks for it, for the ops that the query lets through, a batch at a time
(``records`` reads the file, ``columns`` makes columns). Traces larger than memory can be queried.

Units: offset and length are bytes, sectors are 512 bytes, times are ns since the trace's start.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from analysis.columns import ALL, KINDS, OPS, WRITERS, ahead, decode
from analysis.records import OpRecords, Ops
from tracer import text
from tracer.errors import TraceError, UsageError
from tracer.op import SECTOR, Flag
from tracer.trace import Fault, Header, Trace

__all__ = ["KINDS", "OPS", "WRITERS", "Recording"]

_MAX_INT = (1 << 63) - 1


class Recording:
    """A trace, as frames. Only whole records count, so a torn trace reads up to where it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._trace = Trace(path)
        self._records = OpRecords(self._trace)
        self.torn_bytes = self._trace.torn_bytes
        """Bytes after the last whole record."""

    def __repr__(self) -> str:
        state = "" if self.closed else ", not closed"
        records = f"{self._trace.count:,} records"  # ops are not counted before someone asks
        return f"<Recording {self.path.name}: {text.size(self.header.size)}, {records}{state}>"

    @property
    def header(self) -> Header:
        """What the trace says of itself."""
        return self._trace.header

    @property
    def closed(self) -> bool:
        """Whether the recording came to its end; what a killed one has not got is missing here."""
        return self._trace.end is not None

    @property
    def count(self) -> int:
        """How many ops there are. Raises TraceError."""
        return self._records.count

    @property
    def sectors(self) -> int:
        """The disk's size."""
        return -(-self.header.size // SECTOR)

    @property
    def ops(self) -> pl.LazyFrame:
        """Every op by seq, with the columns of OPS. Raises TraceError.

        ``sector`` is the first of the ``sectors`` that the op touches. ``flags`` are bits of
        ``tracer.op.Flag``. ``completed`` and ``latency`` (from submitted to completed) are null where
        the op never completed. ``in_flight`` counts the other ops that were submitted and not
        completed when this one was submitted. ``status`` is the errno that the guest got, 0 for
        success. ``reference_ns`` and ``test_ns`` are how long each side took. ``digest`` is in hex.
        """
        return self._all.select(*OPS)

    @property
    def marks(self) -> pl.DataFrame:
        """The named moments: each before op ``seq``, at ``time``. Raises TraceError."""
        schema = {"seq": pl.Int64(), "time": pl.Int64(), "name": pl.String()}
        return self._frame((asdict(mark) for mark in self._trace.marks()), schema)

    @property
    def mismatches(self) -> pl.DataFrame:
        """Where the two sides differed while recording. Raises TraceError.

        ``offset`` and ``length`` are the bytes that differ; the statuses are errno values; ``digest``
        is that of what the test side returned, in hex.
        """
        schema = {
            "seq": pl.Int64(),
            "fault": pl.Enum([fault.name.lower() for fault in Fault]),
            "offset": pl.Int64(),
            "length": pl.Int64(),
            "expected_status": pl.UInt16(),
            "actual_status": pl.UInt16(),
            "time": pl.Int64(),
            "digest": pl.String(),
        }
        rows = (
            asdict(one) | {"fault": Fault(one.fault).name.lower(), "digest": one.digest.hex()}
            for one in self._trace.mismatches()
        )
        return self._frame(rows, schema)

    def history(self, sector: int) -> pl.DataFrame:
        """Every op that touched a sector, by seq. Raises UsageError for a sector beyond the disk."""
        return self._touching(sector).collect()

    def writers(self, sector: int) -> pl.DataFrame:
        """Every op that changed a sector, by seq; ``last`` marks the one whose data it held at the end.

        A write that failed may have changed it, and is here. Raises UsageError as ``history`` does.
        """
        # "fast or not at all": a zero with FAST_ZERO that failed has done nothing (NBD's proto.md)
        refused = (pl.col("flags") & int(Flag.FAST_ZERO) != 0) & (pl.col("status") != 0)
        return (
            self._touching(sector)
            .filter(pl.col("kind").is_in(WRITERS), ~refused)
            .with_columns(last=pl.col("seq") == pl.col("seq").max())
            .collect()
        )

    def _frame(self, rows: Iterable[dict[str, Any]], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
        chosen = [[row[name] for name in schema] for row in rows]
        if any(isinstance(value, int) and value > _MAX_INT for row in chosen for value in row):
            raise TraceError(f"{self.path}: a number in it has more than 63 bits")
        return pl.DataFrame(chosen, schema=schema, orient="row")

    def _touching(self, sector: int) -> pl.LazyFrame:
        if not 0 <= sector < self.sectors:
            raise UsageError(f"there is no sector {sector}: the disk's last is {self.sectors - 1}")
        # of bytes rather than sectors: polars hands that down to where the file is read
        start, length = pl.col("offset"), pl.col("length")
        return self.ops.filter(
            start < (sector + 1) * SECTOR, start + length > sector * SECTOR, length > 0
        )

    @property
    def _all(self) -> pl.LazyFrame:
        """Every op by seq, with the columns of ALL."""
        _ = self._records.count  # what is no record is found here: polars may wrap what a query raises
        # not kept: polars would keep this object in turn, and with it the file open for ever
        return register_io_source(self._scan, schema=ALL)

    def _scan(
        self,
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        _batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        """What polars asks for: some columns of the ops, in batches."""
        wanted = list(ALL) if with_columns is None else with_columns
        records = self._records

        def frame(ops: Ops) -> pl.DataFrame:
            if predicate is not None:
                # what it asks for first, so that of the ops that it drops nothing else is decoded
                asked = decode(records, ops, ["seq", *predicate.meta.root_names()])
                kept = asked.with_columns(place=np.arange(len(ops))).filter(predicate)
                ops = ops[kept["place"].to_numpy()]
            return decode(records, ops, wanted)

        return ahead(frame, _head(records.by_seq(), n_rows))


def _head(batches: Iterator[Ops], count: int | None) -> Iterator[Ops]:
    """The first so many ops of all batches, in at least one."""
    for batch in batches:
        if count is None:
            yield batch
        else:
            yield batch[:count]
            count -= len(batch)
            if count <= 0:
                return
