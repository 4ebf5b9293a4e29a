"""A trace as polars frames.

A column is decoded when a query asks for it, for the ops that the query lets through, a batch at a time
(``records`` reads the file, ``columns`` makes columns). Traces larger than memory can be queried.

Units: offset and length are bytes, sectors are 512 bytes, times are ns since the trace's start.
"""

import builtins
import errno
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from analysis.frames.columns import ALL, KINDS, OPS, WRITERS, ahead, decode
from analysis.frames.layout import Batch
from analysis.frames.lifetimes import expected, to_op, versions
from analysis.frames.records import OpRecords
from tracer import text
from tracer.closing import Closing
from tracer.errors import TraceError, UsageError
from tracer.op import SECTOR, Fault, Flag, Kind, changing_kinds
from tracer.trace.data import TraceWithData
from tracer.trace.file import Trace
from tracer.trace.header import Header
from tracer.trace.records import End

__all__ = ["KINDS", "OPS", "WRITERS", "Frames"]

_MAX_INT = (1 << 63) - 1

_FOR_DATA = ["seq", "kind", "offset", "length", "payload", "digest"]
"""The columns that it takes to find an op's data."""


class Frames(Closing):
    """A trace, as frames. Only whole records count, so a torn trace reads up to where it ends.

    Use it as a context manager, or let it go: its files are closed when it is collected.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = ExitStack()
        self._trace = self._files.enter_context(Trace(path))
        self._close = weakref.finalize(self, self._files.close)
        self._records = OpRecords(self._trace)
        self.torn_bytes = self._trace.torn_bytes
        """Bytes after the last whole record."""

    def __repr__(self) -> str:
        state = "" if self.closed else ", not closed"
        records = f"{self.records:,} records"  # ops are not counted before someone asks
        return f"<Frames {self.path.name}: {text.size(self.header.size)}, {records}{state}>"

    def close(self) -> None:
        """Close the files; a second time does nothing."""
        self._close()

    @property
    def header(self) -> Header:
        """What the trace says of itself."""
        return self._trace.header

    @property
    def closed(self) -> bool:
        """Whether the recording came to its end; what a killed one has not got is missing here."""
        return self.end is not None

    @property
    def end(self) -> End | None:
        """How the recording ended; None where it was not closed."""
        return self._trace.end

    @property
    def records(self) -> int:
        """How many records there are, of all kinds."""
        return self._trace.count

    @property
    def watch(self) -> Callable[[int], None]:
        """Told of how many more records were read, each time that the file is: set it for a progress
        bar."""
        return self._records.watch

    @watch.setter
    def watch(self, told: Callable[[int], None]) -> None:
        self._records.watch = told

    def batches(self) -> Iterator[Batch]:
        """All ops by seq, for numpy, some thousand at a time. Raises TraceError."""
        yield from self._records.by_seq()  # not returned: this object must outlive its batches

    @property
    def count(self) -> int:
        """How many ops there are. Raises TraceError."""
        return self._records.count

    @property
    def last(self) -> int:
        """The number of the last op; -1 where there is none. Raises TraceError."""
        return self._records.last

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
        success. ``reference_ns`` and ``test_ns`` are how long each side took. ``digest``
        is 16 bytes; ``.bin.encode("hex")`` makes text of it.
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
        is that of what the test side returned.
        """
        schema = {
            "seq": pl.Int64(),
            "fault": pl.Enum([fault.name.lower() for fault in Fault]),
            "offset": pl.Int64(),
            "length": pl.Int64(),
            "expected_status": pl.UInt16(),
            "actual_status": pl.UInt16(),
            "time": pl.Int64(),
            "digest": pl.Binary(),
        }
        rows = (
            asdict(one) | {"fault": Fault(one.fault).name.lower()}
            for one in self._trace.mismatches()
        )
        return self._frame(rows, schema)

    def touching(self, sector: int) -> pl.LazyFrame:
        """``history``, lazily: a sector may have been touched by every op of a long trace."""
        if not 0 <= sector < self.sectors:
            raise UsageError(f"there is no sector {sector}: the disk's last is {self.sectors - 1}")
        return self._within(sector * SECTOR, (sector + 1) * SECTOR).select(*OPS)

    def history(self, sector: int) -> pl.DataFrame:
        """Every op that touched a sector, by seq. Raises UsageError for a sector beyond the disk."""
        return self.touching(sector).collect()

    def writers(self, sector: int) -> pl.DataFrame:
        """Every op that changed a sector, by seq; ``last`` marks the one whose data it held at the end.

        A write that failed may have changed it, and is here. Raises UsageError as ``history`` does.
        """
        # what Op.refused says of one op
        fast_zero = pl.col("flags") & int(Flag.FAST_ZERO) != 0
        refused = fast_zero & (pl.col("status") == errno.ENOTSUP)
        return (
            self.touching(sector)
            .filter(pl.col("kind").is_in(WRITERS), ~refused)
            .with_columns(last=pl.col("seq") == pl.col("seq").max())
            .collect()
        )

    def versions(self, sectors: range) -> pl.DataFrame:
        """Every version that these sectors ever held, by sector and seq, with the columns of VERSIONS.

        One row for the ``sectors`` from ``sector`` on that op ``seq`` changed, and ``replaced_by`` next
        (null: none did). They should have held it from ``since`` (when ``seq`` was done) to
        ``until`` (when ``replaced_by`` was submitted), in ns; ``read_by`` are the reads that returned
        any of it. ``seq`` is null for the zeroes of a blank disk. ``digest`` is that of all that ``seq``
        wrote. An op that changed part of a sector makes a version of the whole sector.

        What failed on the reference is no version; see ``writers``. Trims are zeroes, unless the rule is
        ``old-or-zero``: there they change nothing. Raises UsageError for sectors beyond the disk.
        """
        start, end = self._bounds(sectors)
        took = self._within(start, end).filter(pl.col("reference_status") == 0)
        reads = took.filter(pl.col("kind") == Kind.READ.label, pl.col("test_status") == 0)
        wanted = ["seq", "kind", "sector", "sectors", "submitted", "completed", "digest"]
        return versions(
            took.filter(self._changes).select(wanted).collect(),
            reads.select("seq", "sector", "sectors").collect(),
            sectors.start,
            sectors.stop,
        )

    def expected(self, sectors: range, at: int | None = None) -> builtins.bytes:
        """The bytes that these sectors should have held after op ``at`` (after all, if None).

        Where the trace has digests alone, what stands in for the data: see ``bytes``. Raises UsageError
        for sectors or an op that are not there, TraceError where a payload is not.
        """
        start, end = self._bounds(sectors)
        if at is not None and not 0 <= at <= self.last:
            raise UsageError(f"there is no op #{at}: the last is #{self.last}")
        took = self._within(start, end).filter(pl.col("reference_status") == 0, self._changes)
        if at is not None:
            took = took.filter(pl.col("seq") <= at)
        return expected(took.select(_FOR_DATA).collect(), self._source, start, end)

    def bytes(self, seq: int) -> builtins.bytes:
        """What op ``seq`` brought to be written.

        Where the trace has digests alone, bytes that stand in for it, the same for equal digests
        (``tracer.digest.stand_in``). Raises UsageError where there is no such op or it brought nothing,
        TraceError where its payload is not there.
        """
        found = decode(self._records, self._records.find(seq), _FOR_DATA)
        if found.is_empty():
            raise UsageError(f"there is no op #{seq}")
        op = to_op(found.row(0, named=True))
        data = self._source.data(op)
        if data is None:
            raise UsageError(f"op #{seq} is a {found['kind'][0]}: it brought no data")
        return builtins.bytes(data)

    @cached_property
    def _source(self) -> TraceWithData:
        return self._files.enter_context(TraceWithData(self.path))

    @property
    def _changes(self) -> pl.Expr:
        """Which ops change what the reference holds."""
        changing = changing_kinds(self.header.trim)
        return pl.col("kind").is_in(sorted(kind.label for kind in changing))

    def _bounds(self, sectors: range) -> tuple[int, int]:
        """The bytes of a range of sectors."""
        if sectors.step != 1 or not 0 <= sectors.start < sectors.stop <= self.sectors:
            raise UsageError(
                f"there are no sectors {sectors}: the disk has range(0, {self.sectors})"
            )
        return sectors.start * SECTOR, min(sectors.stop * SECTOR, self.header.size)

    def _frame(
        self, rows: Iterable[dict[str, Any]], schema: Mapping[str, pl.DataType]
    ) -> pl.DataFrame:
        chosen = [[row[name] for name in schema] for row in rows]
        if any(isinstance(value, int) and value > _MAX_INT for row in chosen for value in row):
            raise TraceError(f"{self.path}: a number in it has more than 63 bits")
        return pl.DataFrame(chosen, schema=schema, orient="row")

    def _within(self, start: int, end: int) -> pl.LazyFrame:
        """Every op that touches the bytes ``[start, end)``, with the columns of ALL."""
        offset, length = pl.col("offset"), pl.col("length")
        return self._all.filter(offset < end, offset + length > start, length > 0)

    @property
    def _all(self) -> pl.LazyFrame:
        """Every op by seq, with the columns of ALL."""
        _ = (
            self._records.count
        )  # what is no record is found here: polars may wrap what a query raises
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

        def frame(ops: Batch) -> pl.DataFrame:
            records = self._records  # holds on to this object, which closes the file when collected
            if predicate is not None:
                # what it asks for first, so that of the ops that it drops nothing else is decoded
                asked = decode(records, ops, ["seq", *predicate.meta.root_names()])
                kept = asked.with_columns(place=np.arange(len(ops))).filter(predicate)
                ops = ops.take(kept["place"].to_numpy())
            return decode(records, ops, wanted)

        return ahead(frame, _head(self._records.by_seq(), n_rows))


def _head(batches: Iterator[Batch], count: int | None) -> Iterator[Batch]:
    """The first so many ops of all batches, in at least one."""
    for batch in batches:
        if count is None:
            yield batch
        else:
            yield batch.head(count)
            count -= len(batch)
            if count <= 0:
                return
