"""A trace as polars frames.

A query decodes only the columns that it uses, for the ops that pass its filter, a batch at a time
(``records`` reads the file, ``columns`` makes columns). So a trace larger than memory can be
queried.

A column's unit is in its name or its dtype. docs/analysis.md describes every column.
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

from analysis.frames.asked import checked_bytes, checked_op, checked_sector
from analysis.frames.columns import (
    ALL,
    KINDS,
    MARKS,
    MISMATCHES,
    OPS,
    RESTARTS,
    SETTLES,
    WRITERS,
    ahead,
    decode,
)
from analysis.frames.layout import Batch
from analysis.frames.lifetimes import expected, to_op, versions
from analysis.frames.lower import amplification, caused, lower
from analysis.frames.records import OpRecords
from analysis.frames.shown import in_a_line, in_html
from tracer.closing import Closing
from tracer.errors import UsageError
from tracer.op import NO_SEQ, SECTOR, Fault, Flag, Kind, changing_kinds
from tracer.trace.data import TraceWithData
from tracer.trace.effects import last_writer
from tracer.trace.file import Trace
from tracer.trace.header import Header
from tracer.trace.records import End, Settle

__all__ = ["KINDS", "OPS", "WRITERS", "Frames"]

_FOR_DATA = ["seq", "kind", "offset_bytes", "length_bytes", "payload", "digest"]
"""The columns that are needed to find an op's data."""


class Frames(Closing):
    """A trace as frames.

    Use it as a context manager, or drop it: the files are closed when the object is collected. A
    torn trace reads up to its last whole record.

    Sectors are 512 bytes, and times count from the trace's start. Digests are 16 bytes. Statuses
    are errno values, 0 for success.

    The constructor reads the header only. It raises TraceError if the file cannot be opened or is
    not a trace. The first use of the ops reads the whole trace once, to check and index it; it
    raises TraceError if a record is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        """The trace's file."""
        self._files = ExitStack()
        self._trace = self._files.enter_context(Trace(path))
        self._close = weakref.finalize(self, self._files.close)
        self._records = OpRecords(self._trace)
        self.torn_bytes = self._trace.torn_bytes
        """Bytes after the last whole record; 0 unless the trace is torn."""

    def __repr__(self) -> str:
        return in_a_line(self.path, self.header, self._trace if self._close.alive else None)

    def _repr_html_(self) -> str:
        return in_html(self.path, self.header, self._trace if self._close.alive else None)

    def __len__(self) -> int:
        """The number of ops, as ``count``."""
        return self.count

    def __bool__(self) -> bool:
        """True: a trace without ops is a trace."""
        return True

    def close(self) -> None:
        """Close the files. Closing twice is harmless."""
        self._close()

    @property
    def header(self) -> Header:
        """The trace's header: disk size (bytes), driver, host, digest algorithm and so on."""
        return self._trace.header

    @property
    def closed(self) -> bool:
        """Whether the trace has its end record. It has none if the recorder was killed."""
        return self.end is not None

    @property
    def end(self) -> End | None:
        """The trace's end record; None if the trace was not closed."""
        return self._opened.end

    @property
    def records(self) -> int:
        """The number of whole records in the file, of all kinds. Reads nothing."""
        return self._trace.count

    @property
    def watch(self) -> Callable[[int], None]:
        """A function that gets the number of records just read, whenever the file is read. Set it
        to show progress."""
        return self._records.watch

    @watch.setter
    def watch(self, watch: Callable[[int], None]) -> None:
        self._records.watch = watch

    def batches(self) -> Iterator[Batch]:
        """Yield all ops sorted by seq, as batches for numpy of about 65,000 ops. Raises TraceError
        if the trace is damaged."""
        yield from self._records.by_seq()  # not returned: this object must outlive its batches

    @property
    def count(self) -> int:
        """The number of ops. Raises TraceError if the trace is damaged."""
        return self._records.count

    @property
    def last(self) -> int:
        """The highest seq; -1 if there are no ops. Raises TraceError if the trace is damaged."""
        return self._records.last

    @property
    def sectors(self) -> int:
        """The disk's size in sectors. The last sector may be a part of one."""
        return -(-self.header.size // SECTOR)

    @property
    def ops(self) -> pl.LazyFrame:
        """Every op, sorted by seq, with the columns of OPS.

        ==============  ============  ========================================================
        seq             Int64         the op's number, in the order of submission
        kind            Enum          read, write, flush, trim, cache, block_status, zero, start
        offset_bytes    Int64         the first byte
        length_bytes    Int64         how many bytes
        sector          Int64         the first sector that the op touches
        sectors         Int64         how many sectors it touches
        flags           String        names, such as ``FUA|NO_HOLE``; empty if none is set
        submitted       Duration(ns)  since the trace's start
        completed       Duration(ns)  since the trace's start; null if the op never completed
        latency         Duration(ns)  from submitted to completed; null if it never completed
        in_flight       Int64         other ops in flight when this op was submitted; null if the
                                      trace is an import without completion times
        status          UInt16        the errno that the guest got; 0 for success
        reference_took  Duration(ns)  what the reference took
        test_took       Duration(ns)  what the driver took; what was not measured is null
        digest          Binary        of the data written, or returned by a read: 16 bytes
        connection      UInt32        the guest's connection
        ==============  ============  ========================================================

        ``pl.col("digest").bin.encode("hex")`` makes text of a digest. Raises TraceError if the
        trace is damaged.
        """
        return self._all.select(*OPS)

    @property
    def marks(self) -> pl.DataFrame:
        """The named moments of the recording, in order.

        ====  ============  ==================================
        seq   Int64         the op that the mark stands before
        time  Duration(ns)  since the trace's start
        name  String        the mark's name
        ====  ============  ==================================

        Raises TraceError if the trace is damaged.
        """
        return self._frame((asdict(mark) for mark in self._opened.marks()), MARKS)

    @property
    def mismatches(self) -> pl.DataFrame:
        """The differences between the two sides that the recorder found.

        ===============  ============  =======================================================
        seq              Int64         the op
        fault            Enum          data, status, block_status, final or lost
        offset_bytes     Int64         the first byte that differs
        length_bytes     Int64         the bytes from there to the last byte that differs
        expected_status  UInt16        the reference's errno
        actual_status    UInt16        the driver's errno
        time             Duration(ns)  since the trace's start
        digest           Binary        of the bytes that the driver returned
        ===============  ============  =======================================================

        Raises TraceError if the trace is damaged.
        """
        rows = (
            asdict(mismatch)
            | {
                "fault": Fault(mismatch.fault).label,
                "offset_bytes": mismatch.offset,
                "length_bytes": mismatch.length,
            }
            for mismatch in self._opened.mismatches()
        )
        return self._frame(rows, MISMATCHES)

    @property
    def settles(self) -> pl.DataFrame:
        """What reads decided about ops that conflicted in flight, where their order does not tell.

        ============  ============  ==========================================================
        seq           Int64         the op whose answer decided
        offset_bytes  Int64         the first byte of the range
        length_bytes  Int64         how many bytes
        winner        Int64         the op whose value the range holds; null for what was there
                                    before the conflict
        time          Duration(ns)  since the trace's start
        digest        Binary        of the bytes of the range
        ============  ============  ==========================================================

        Raises TraceError if the trace is damaged.
        """
        rows = (
            asdict(settle)
            | {
                "offset_bytes": settle.offset,
                "length_bytes": settle.length,
                "winner": None if settle.winner == NO_SEQ else settle.winner,
            }
            for settle in self._opened.settles()
        )
        return self._frame(rows, SETTLES)

    @property
    def restarts(self) -> pl.DataFrame:
        """The moments at which the driver was stopped and started again, in order.

        ====  ============  ===============================
        seq   Int64         the op before which that was
        time  Duration(ns)  since the trace's start
        why   String        what for
        ====  ============  ===============================

        Raises TraceError if the trace is damaged.
        """
        return self._frame((asdict(restart) for restart in self._opened.restarts()), RESTARTS)

    @property
    def lower(self) -> pl.DataFrame:
        """What the driver did to its image file, from the NAME.lower beside the trace, in order.

        ============  ============  ===========================================================
        number        Int64         the lower op's number, from 0
        kind          Enum          write, flush, discard, zero, truncate
        offset_bytes  Int64         the first byte in the image file
        length_bytes  Int64         how many bytes; of truncate, the file's new size
        fua           Boolean       whether it is durable once it is done
        error         UInt16        the errno, 0 for success
        digest        Binary        of the data written
        time          Duration(ns)  when it was done; null if its log does not say
        after         Duration(ns)  the last event before it: an op of the guest sent or done
        before        Duration(ns)  the first event after it
        in_flight     List(Int64)   the guest's ops in flight, by seq
        cause         Int64         the only one of these; null if there are several or none
        ============  ============  ===========================================================

        Raises TraceError if there is no such file, or it is another trace's.
        """
        return lower(self.path, self.header.id)

    def amplification(self) -> pl.DataFrame:
        """Return a row: what the guest and the driver wrote (bytes), and the ratio. Raises as
        ``lower``."""
        return amplification(self.ops, self.lower)

    def caused(self) -> pl.DataFrame:
        """Return what each op of the guest made the driver do, as far as it alone was in flight: a
        row per op with ``seq``, ``lower_ops``, ``lower_bytes``, ``lower_flushes``. Raises as
        ``lower``."""
        return caused(self.lower)

    def check_sector(self, sector: int) -> None:
        """Raise UsageError if the disk has no such sector."""
        checked_sector(sector, self.sectors)

    def byte_range(self, sectors: range) -> tuple[int, int]:
        """Return the first byte of some sectors, and the byte after the last: the disk may end
        within its last sector. Raises UsageError if it is not a range with step 1, or the disk does
        not have these sectors."""
        return checked_bytes(sectors, self.header.size)

    def touching(self, sector: int) -> pl.LazyFrame:
        """Return every op that touched a sector, sorted by seq, as a lazy frame: in a long trace
        these may be many. The columns are those of ``ops``.

        Raises UsageError if the disk has no such sector, TraceError if the trace is damaged.
        """
        return self._on(sector).select(*OPS)

    def history(self, sector: int) -> pl.DataFrame:
        """Return every op that touched a sector, sorted by seq: ``touching``, collected.

        Raises UsageError if the disk has no such sector, TraceError if the trace is damaged.
        """
        return self.touching(sector).collect()

    def writers(self, sector: int) -> pl.DataFrame:
        """Return every op that changed a sector, sorted by seq.

        The columns are those of ``ops``, and ``last`` (Boolean), which is true for the last op: the
        sector held its data at the end. A write that failed may have changed the sector, and is
        included. A fast zero that the driver refused is not. Raises UsageError if the disk has no
        such sector, TraceError if the trace is damaged.
        """
        # the rule of Op.refused, as an expression
        fast_zero = pl.col("flag_bits") & int(Flag.FAST_ZERO) != 0
        refused = fast_zero & (pl.col("test_status") == errno.ENOTSUP)
        found = (
            self._on(sector).filter(pl.col("kind").is_in(WRITERS), ~refused).select(*OPS).collect()
        )
        start = sector * SECTOR
        last = last_writer(found["seq"].to_list(), self._settles, start, start + SECTOR)
        return found.with_columns(last=pl.col("seq") == pl.lit(last, pl.Int64()))

    def versions(self, sectors: range) -> pl.DataFrame:
        """Return every version that these sectors should have held, sorted by sector and seq.

        Each row is a version of ``sectors`` sectors from ``sector`` on, with these columns:

        ===========  ============  ===========================================================
        sector       Int64         the first sector
        sectors      Int64         how many sectors
        seq          Int64         the op that made the version; null for a blank disk's zeroes
        kind         Enum          of that op; null for a blank disk
        digest       Binary        of all the data of that op: 16 bytes; null for a blank disk
        since        Duration(ns)  when that op completed; 0 for a blank disk
        replaced_by  Int64         the next op that changed any of it; null if there is none
        until        Duration(ns)  when ``replaced_by`` was submitted; null if there is none
        read_by      List(Int64)   the reads that returned any of it, by seq
        ===========  ============  ===========================================================

        An op that changed part of a sector makes a version of the whole sector. An op that failed
        on the reference makes no version; ``writers`` shows it. A trim makes zeroes, unless the
        trace's trim rule is ``old-or-zero``: then it changes nothing. Of ops that conflicted in
        flight, the one that a settle names comes last.

        ``sectors`` is a range with step 1. Raises UsageError if it is empty or the disk does not
        have these sectors, TraceError if the trace is damaged.
        """
        start, end = self.byte_range(sectors)
        took = self._within(start, end).filter(pl.col("reference_status") == 0)
        reads = took.filter(pl.col("kind") == Kind.READ.label, pl.col("test_status") == 0)
        wanted = ["seq", "kind", "sector", "sectors", "submitted", "completed", "digest"]
        return versions(
            took.filter(self._changes).select(wanted).collect(),
            reads.select("seq", "sector", "sectors").collect(),
            self._settles,
            sectors,
        )

    def expected(self, sectors: range, at: int | None = None) -> builtins.bytes:
        """Return the bytes that these sectors should have held after op ``at`` (None: the last op).

        If the trace has digests only, stand-ins replace the data: see ``bytes``. ``sectors`` is a
        range with step 1; the result has 512 bytes per sector, or fewer for the disk's last sector
        if it is a part of one. Raises UsageError if the disk does not have these sectors or the
        trace has no op ``at``, TraceError if the trace is damaged or a payload cannot be read.
        """
        start, end = self.byte_range(sectors)
        last = self.last if at is None else checked_op(at, self.last)
        took = self._within(start, end).filter(pl.col("reference_status") == 0, self._changes)
        took = took.filter(pl.col("seq") <= last)
        changes = took.select(_FOR_DATA).collect()
        return expected(changes, self._settles, self._source, start, end)

    def bytes(self, seq: int) -> builtins.bytes:
        """Return the data that op ``seq`` wrote.

        If the trace has digests only, return bytes that stand in for the data. They depend on the
        digest and the length alone (``tracer.digest.stand_in``). Raises UsageError if there is no
        such op or it brought no data, TraceError if its payload cannot be read.
        """
        number = checked_op(seq, self.last)
        found = decode(self._records, self._records.find(number), _FOR_DATA)
        if found.is_empty():
            raise UsageError(f"there is no op #{number}: the trace has no record of it")
        op = to_op(found.row(0, named=True))
        data = self._source.data(op)
        if data is None:
            raise UsageError(f"op #{seq} is a {found['kind'][0]}: it brought no data")
        return builtins.bytes(data)

    @property
    def _opened(self) -> Trace:
        """The trace. Raises UsageError if it was closed."""
        if not self._close.alive:
            raise UsageError(f"{self.path} was closed: open it again")
        return self._trace

    @cached_property
    def _source(self) -> TraceWithData:
        return self._files.enter_context(TraceWithData(self.path))

    @cached_property
    def _settles(self) -> list[Settle]:
        """The settles, in the order of the ops that decided."""
        return sorted(self._opened.settles(), key=lambda settle: settle.seq)

    @property
    def _changes(self) -> pl.Expr:
        """Whether an op's kind changes the reference image."""
        changing = changing_kinds(self.header.trim)
        return pl.col("kind").is_in(sorted(kind.label for kind in changing))

    def _frame(
        self, rows: Iterable[dict[str, Any]], schema: Mapping[str, pl.DataType]
    ) -> pl.DataFrame:
        chosen = [[row[name] for name in schema] for row in rows]
        return pl.DataFrame(chosen, schema=schema, orient="row")

    def _on(self, sector: int) -> pl.LazyFrame:
        """Return every op that touches a sector. Raises UsageError if the disk has no such."""
        start = checked_sector(sector, self.sectors) * SECTOR
        return self._within(start, start + SECTOR)

    def _within(self, start: int, end: int) -> pl.LazyFrame:
        """Return every op that touches the bytes ``[start, end)``, with the columns of ALL."""
        offset, length = pl.col("offset_bytes"), pl.col("length_bytes")
        return self._all.filter(offset < end, offset + length > start, length > 0)

    @property
    def _all(self) -> pl.LazyFrame:
        """Every op, sorted by seq, with the columns of ALL."""
        _ = self._opened
        # Find damaged records here: polars may wrap an exception that a query raises.
        _ = self._records.count
        # Not cached: the frame refers to this object, and the cycle would keep the file open.
        return register_io_source(self._scan, schema=ALL)

    def _scan(
        self,
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        _batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        """Yield the columns and ops that polars asks for, a batch at a time."""
        wanted = list(ALL) if with_columns is None else with_columns

        def frame(ops: Batch) -> pl.DataFrame:
            records = self._records  # keeps this object alive, and with it the file open
            if predicate is not None:
                # decode the predicate's columns first, and the others for the ops that pass alone
                asked = decode(records, ops, ["seq", *predicate.meta.root_names()])
                kept = asked.with_columns(place=np.arange(len(ops))).filter(predicate)
                ops = ops.take(kept["place"].to_numpy())
            return decode(records, ops, wanted)

        return ahead(frame, _head(self._records.by_seq(), n_rows))


def _head(batches: Iterator[Batch], count: int | None) -> Iterator[Batch]:
    """Yield the first ``count`` ops (None: all) of the batches, as at least one batch."""
    for batch in batches:
        if count is None:
            yield batch
        else:
            yield batch.head(count)
            count -= len(batch)
            if count <= 0:
                return
