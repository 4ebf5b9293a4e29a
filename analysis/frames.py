"""A trace as polars frames.

Records are fixed-width, so a trace is a table already: numpy views the file, and a column is decoded
when a query asks for it, a batch of ops at a time. Traces larger than memory can be queried.

Units: offset and length are bytes, sectors are 512 bytes, times are ns since the trace's start.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.io.plugins import register_io_source

from tracer import text
from tracer.errors import TraceError, UsageError
from tracer.op import KIND_BY_NUMBER, MUTATING, NO_TIME, SECTOR, Flag, Kind
from tracer.trace import KNOWN_FLAGS, MAX_LENGTH, RECORD_SIZE, Fault, Header, Tag, Trace

_FIELDS = {
    "seq": ">u8",
    "kind": "u1",
    "flags": ">u2",
    "offset": ">u8",
    "length": ">u8",
    "submitted": ">u8",
    "completed": ">u8",
    "reference_ns": ">u8",
    "test_ns": ">u8",
    "reference_status": ">u2",
    "test_status": ">u2",
    "connection": ">u4",
    "payload": ">u8",
    "digest": "V16",
}
_PREFIXES = {1: b"\xcc", 2: b"\xcd", 4: b"\xce", 8: b"\xcf", 16: b"\xc4\x10"}
"""What msgpack puts before a field, by its size: uint 8 to 64, and bin 8 with its length."""


def _lay_out() -> tuple[np.dtype[np.void], npt.NDArray[np.intp], npt.NDArray[np.uint8]]:
    """The dtype of an op's record, where the bytes are that all ops have alike, and those bytes."""
    offsets, places, values = [1], [0], [0x90 + 1 + len(_FIELDS)]
    at = 2
    for code in _FIELDS.values():
        size = np.dtype(code).itemsize
        for byte in _PREFIXES[size]:
            places.append(at)
            values.append(byte)
            at += 1
        offsets.append(at)
        at += size
    dtype = np.dtype(
        {
            "names": ["tag", *_FIELDS],
            "formats": ["u1", *_FIELDS.values()],
            "offsets": offsets,
            "itemsize": RECORD_SIZE,
        }
    )
    return dtype, np.array(places), np.array(values, np.uint8)


OP_DTYPE, _FIXED_AT, _FIXED = _lay_out()
"""An op's record as numpy sees it: the twin of ``tracer.trace._OP``."""

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

_RAW: Mapping[str, Any] = {
    "seq": np.int64,
    "kind": np.uint8,
    "flags": np.uint16,
    "offset": np.int64,
    "length": np.int64,
    "submitted": np.int64,
    "completed": np.int64,
    "reference_ns": np.int64,
    "test_ns": np.int64,
    "reference_status": np.uint16,
    "test_status": np.uint16,
    "connection": np.uint32,
}
_SOURCE = pl.Schema({name: pl.Series(np.empty(0, kind)).dtype for name, kind in _RAW.items()})
_SOURCE.update({"digest": pl.Binary(), "in_flight": pl.Int64()})
"""What is read from the file; the other columns follow from these."""

_BATCH = 1 << 17
"""Ops that are decoded at a time: 14 MB of records."""

_MAX_INT = (1 << 63) - 1

_MAX_LENGTHS = np.full(256, MAX_LENGTH["other"], np.uint64)
_MAX_LENGTHS[[Kind.READ, Kind.WRITE, Kind.START]] = MAX_LENGTH["data"]
_HEADS = np.zeros(256, np.uint8)
_HEADS[[Tag.MARK, Tag.MISMATCH, Tag.END]] = 0x94, 0x9B, 0x95
"""The first byte of a record that is no op, by tag: an array of so many."""

_KNOWN = np.isin(np.arange(256), list(KIND_BY_NUMBER))

_Records = npt.NDArray[np.void]


class Recording:
    """A trace, as frames. Only whole records count, so a torn trace reads up to where it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._trace = Trace(path)
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
        return len(self._order)

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
        _ = self._order  # what is no record is found here: polars may wrap what is raised in a query
        # not kept here: polars would keep this object in turn, and with it the file open for ever
        offset, length = pl.col("offset"), pl.col("length")
        failed = pl.col("test_status") != 0
        completed = pl.when(pl.col("completed") >= 0).then(pl.col("completed"))
        return (
            register_io_source(self._scan, schema=_SOURCE)
            .with_columns(
                kind=pl.col("kind").replace_strict(
                    {int(kind): kind.label for kind in Kind}, return_dtype=KINDS
                ),
                sector=offset // SECTOR,
                sectors=pl.when(length > 0)
                .then((offset + length + SECTOR - 1) // SECTOR - offset // SECTOR)
                .otherwise(0),
                completed=completed,
                latency=completed - pl.col("submitted"),
                status=pl.when(failed).then("test_status").otherwise("reference_status"),
                digest=pl.col("digest").bin.encode("hex"),
            )
            .select(*OPS)
        )

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

    def _scan(
        self,
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        _batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        """What polars asks for: some columns of the ops, in batches."""
        wanted = list(_SOURCE) if with_columns is None else with_columns
        count = len(self._order) if n_rows is None else min(n_rows, len(self._order))
        for at in range(0, max(1, count), _BATCH):
            places = np.arange(at, min(at + _BATCH, count))
            if predicate is not None:
                # what it asks for first, so that of the ops that it drops nothing else is decoded
                asked = self._decode(places, ["seq", *predicate.meta.root_names()])
                places = asked.with_columns(place=places).filter(predicate)["place"].to_numpy()
            yield self._decode(places, wanted)

    def records(self, places: npt.NDArray[np.intp] | slice) -> npt.NDArray[np.void]:
        """The records (OP_DTYPE) of the ops at some places in the order of seq. Raises TraceError."""
        # numpy copies opaque records seven times as fast as it does structured ones
        return self._table.view(f"V{RECORD_SIZE}")[self._order[places]].view(OP_DTYPE)

    def _decode(self, places: npt.NDArray[np.intp], columns: Iterable[str]) -> pl.DataFrame:
        """Columns of _SOURCE, for the ops at some places in the order of seq."""
        records = self.records(places)
        found: dict[str, Any] = {}
        for name in columns:
            if name == "digest":
                found[name] = pl.Series(records[name].tolist(), dtype=pl.Binary)
            elif name == "in_flight":
                found[name] = self._in_flight[places]
            else:
                found[name] = records[name].astype(_RAW[name])
        return pl.DataFrame(found)

    @cached_property
    def _table(self) -> _Records:
        """Every whole record, of any kind."""
        if not self._trace.count:
            return np.empty(0, OP_DTYPE)
        shape = (self._trace.count,)
        return np.asarray(np.memmap(self.path, OP_DTYPE, "r", self._trace.records_at, shape))

    @cached_property
    def _order(self) -> npt.NDArray[np.intp]:
        """Which records are ops, by seq: the file has them as they completed."""
        found = [np.empty(0, np.intp)]
        for at in range(0, len(self._table), _BATCH):
            records = self._table[at : at + _BATCH]
            is_op = records["tag"] == Tag.OP
            self._check(at, records, is_op)
            found.append(np.flatnonzero(is_op) + at)
        rows = np.concatenate(found)
        ordered: npt.NDArray[np.intp] = rows[np.argsort(self._table["seq"][rows], kind="stable")]
        return ordered

    def _check(self, at: int, records: _Records, is_op: npt.NDArray[np.bool_]) -> None:
        """Refuse what ``tracer.trace`` refuses, and numbers of more than 63 bits."""
        octets = records.view((np.uint8, RECORD_SIZE))
        kind, length = records["kind"], records["length"]
        completed = records["completed"]
        small = (completed <= _MAX_INT) | (completed == NO_TIME)
        for name in ("seq", "submitted", "reference_ns", "test_ns"):
            small &= records[name] <= _MAX_INT
        size = np.uint64(self.header.size)
        sound = (
            (octets[:, _FIXED_AT] == _FIXED).all(axis=1)
            & _KNOWN[kind]
            & (records["flags"] & ~np.uint16(KNOWN_FLAGS) == 0)
            & (length <= _MAX_LENGTHS[kind])
            & (records["offset"] <= size)
            & (length <= size - records["offset"])
            & ((length != 0) | (kind == Kind.FLUSH))
            & small
        )
        # the rest of the other records is checked when they are asked for
        other = (_HEADS[records["tag"]] == octets[:, 0]) & np.isin(records["tag"], list(Tag))
        wrong = np.flatnonzero(~np.where(is_op, sound, other))
        if len(wrong):
            byte = self._trace.records_at + (at + int(wrong[0])) * RECORD_SIZE
            raise TraceError(f"{self.path}: no record where one should be, at byte {byte}")

    @cached_property
    def _in_flight(self) -> npt.NDArray[np.int64]:
        """For each op by seq, the others that were in flight when it was submitted.

        B runs after A if A completed before B was submitted; all else is together. So those in flight
        are those submitted by then less those completed before.
        """
        table, order = self._table, self._order
        submitted = table["submitted"][order].astype(np.uint64)
        completed = np.maximum(table["completed"][order].astype(np.uint64), submitted)
        # the start image's pieces were never on their way
        guest = table["kind"][order] != Kind.START
        begun = np.searchsorted(np.sort(submitted[guest]), submitted, "right")
        ended = np.searchsorted(np.sort(completed[guest]), submitted, "left")
        return np.where(guest, begun - ended - 1, 0).astype(np.int64)
