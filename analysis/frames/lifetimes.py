"""What a range of sectors held, when, and who read it.

Ops took effect in the order of seq, except where a settle says of ops that conflicted in flight
that an earlier one won: it takes effect once more, at the place of the op that decided
(tracer/trace/effects.py). An op's version of a sector lasts until the next op that changes any part
of the sector, and every read in between returned that version.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from analysis.frames.columns import KINDS, TIME
from analysis.frames.layout import Array
from tracer.op import KIND_BY_NUMBER, NO_SEQ, SECTOR, Buffer, Kind, Op
from tracer.ranges import RangeSet
from tracer.trace.data import TraceWithData
from tracer.trace.records import Settle

VERSIONS = pl.Schema(
    {
        "sector": pl.Int64(),
        "sectors": pl.Int64(),
        "seq": pl.Int64(),
        "kind": KINDS,
        "digest": pl.Binary(),
        "since": TIME,
        "replaced_by": pl.Int64(),
        "until": TIME,
        "read_by": pl.List(pl.Int64()),
    }
)
"""The columns of ``Frames.versions``."""

_START = pl.lit(0, TIME)
"""The trace's start."""

NUMBERS = {kind.label: number for number, kind in KIND_BY_NUMBER.items()}
"""The number of each kind, by its label."""


@dataclass(frozen=True, slots=True)
class _Order:
    """Changes in the order in which they took effect. ``row`` is the op's row among the changes.
    ``place`` ascends: it is 2n + 1 for op n, and 2n for what is repeated because op n decided.
    ``start`` and ``end`` are a range of bytes or sectors."""

    row: Array
    place: Array
    start: Array
    end: Array


def _in_order(
    seqs: Array, starts: Array, ends: Array, settles: Sequence[Settle], unit: int
) -> _Order:
    """Return the changes of the ranges ``[starts, ends)``, counted in ``unit`` bytes, and what
    settles, in the order of the ops that decided, repeat of them."""
    rows = np.arange(len(seqs))
    every = _Order(rows, 2 * seqs + 1, starts, ends)
    numbers = [
        (one.seq, one.winner, one.offset // unit, -(-(one.offset + one.length) // unit))
        for one in settles
        if one.winner != NO_SEQ
    ]
    if not numbers:
        return every
    decided, winner, first, last = np.array(numbers, np.int64).T
    known = np.isin(winner, seqs)
    decided, first, last = decided[known], first[known], last[known]
    row = np.searchsorted(seqs, winner[known])
    first, last = np.maximum(first, starts[row]), np.minimum(last, ends[row])
    some = first < last
    again = _Order(row[some], 2 * decided[some], first[some], last[some])
    places = np.concatenate([every.place, again.place])
    order = np.argsort(places, kind="stable")
    return _Order(
        np.concatenate([every.row, again.row])[order],
        places[order],
        np.concatenate([every.start, again.start])[order],
        np.concatenate([every.end, again.end])[order],
    )


def versions(
    changes: pl.DataFrame, reads: pl.DataFrame, settles: Sequence[Settle], sectors: range
) -> pl.DataFrame:
    """Return every version of ``sectors``, as ``Frames.versions`` describes them. ``changes`` and
    ``reads`` are the ops that succeeded on these sectors, sorted by seq.

    The sectors are cut into pieces wherever an op begins or ends. Each op is repeated for each
    piece that it covers. Neighbouring pieces with the same history are joined again. Memory grows
    with the number of pairs of an op and a piece.
    """
    start, end = sectors.start, sectors.stop
    wrote, read_from = (
        np.clip([ops["sector"], ops["sector"] + ops["sectors"]], start, end)
        for ops in (changes, reads)
    )
    done = _in_order(changes["seq"].to_numpy(), wrote[0], wrote[1], settles, SECTOR)
    cuts = np.unique(np.concatenate([[start, end], done.start, done.end, read_from.ravel()]))
    number, piece = _covered(cuts, done.start, done.end)
    # the first version of every piece comes from no op: its number is -1
    written = np.concatenate([np.full(len(cuts) - 1, -1), done.row[number]])
    place = np.concatenate([np.full(len(cuts) - 1, -1), done.place[number]])
    piece = np.concatenate([np.arange(len(cuts) - 1), piece])
    # what is repeated in a piece comes there alone
    order = np.lexsort((place, written, piece))
    again = (np.diff(piece[order]) == 0) & (np.diff(written[order]) == 0)
    order = order[~np.append(again, False)]
    order = order[np.lexsort((place[order], piece[order]))]
    written, place, piece = written[order], place[order], piece[order]
    follows = piece[1:] == piece[:-1]
    replaced = np.append(np.where(follows, written[1:], -1), -1)

    # neighbours with the same writer and the same successor are one row
    order = np.lexsort((piece, replaced, written))
    a, b, at = written[order], replaced[order], piece[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1]) | (at[1:] != at[:-1] + 1)
    firsts = np.flatnonzero(begins)
    lasts = np.append(firsts[1:], len(order)) - 1
    row = np.empty(len(order), np.int64)
    row[order] = np.cumsum(begins) - 1

    # a read returned the last version of the piece before the read
    read, read_piece = _covered(cuts, *read_from)
    asked = reads["seq"].to_numpy()[read]
    stride = 2 * (max(place.max(initial=0), asked.max(initial=0)) + 1)
    seen = np.searchsorted(piece * stride + place, read_piece * stride + 2 * asked, "right") - 1
    readers = (
        pl.DataFrame({"row": row[seen], "read_by": asked})
        .unique()
        .sort("read_by")
        .group_by("row", maintain_order=True)
        .agg("read_by")
    )

    by, successor = _take(changes, a[firsts]), _take(changes, b[firsts])
    blank = by["seq"].is_null()
    sector = cuts[at[firsts]]
    return (
        pl.DataFrame(
            {
                "sector": sector,
                "sectors": cuts[at[lasts] + 1] - sector,
                "seq": by["seq"],
                "kind": by["kind"],
                "digest": by["digest"],
                "since": pl.select(
                    pl.when(blank).then(_START).otherwise(by["completed"])
                ).to_series(),
                "replaced_by": successor["seq"],
                "until": successor["submitted"],
                "row": np.arange(len(firsts)),
            }
        )
        .join(readers, on="row", how="left")
        .with_columns(pl.col("read_by").fill_null([]))
        # the start image comes as ops of kind START: drop the blank version before them
        .filter(~(blank & (successor["kind"] == Kind.START.label).fill_null(False)))
        .sort("sector", pl.col("seq").fill_null(-1))
        .select(*VERSIONS)
        .cast(VERSIONS)
    )


def _covered(cuts: Array, starts: Array, ends: Array) -> tuple[Array, Array]:
    """Return pairs of a range's number and the number of a piece that it covers, sorted by range. A
    piece lies between two cuts."""
    first = np.searchsorted(cuts, starts)
    count = np.searchsorted(cuts, ends) - first
    number = np.repeat(np.arange(len(first)), count)
    within = np.arange(len(number)) - np.repeat(np.cumsum(count) - count, count)
    return number, first[number] + within


def _take(ops: pl.DataFrame, rows: Array) -> pl.DataFrame:
    """Return the ops in these rows, with nulls for row -1."""
    places = pl.Series(rows, dtype=pl.Int64)
    return ops[places.set(places < 0, None)] if len(ops) else ops.clear(len(rows))


def expected(
    changes: pl.DataFrame, settles: Sequence[Settle], source: TraceWithData, start: int, end: int
) -> bytes:
    """Return the bytes ``[start, end)`` of the disk after ``changes``, which are sorted by seq.
    Raises TraceError if a payload cannot be read."""
    held = bytearray(end - start)
    missing = RangeSet([(start, end)])
    offset, length = changes["offset_bytes"].to_numpy(), changes["length_bytes"].to_numpy()
    done = _in_order(changes["seq"].to_numpy(), offset, offset + length, settles, 1)
    # from the last op on: payloads that were overwritten are not read
    ordered = changes[done.row[::-1]].with_columns(start=done.start[::-1], end=done.end[::-1])
    for row in ordered.iter_rows(named=True):
        op = to_op(row)
        data: Buffer | None = None
        for first, last in list(missing.within(row["start"], row["end"])):
            data = data if data is not None else source.data(op)
            if data is not None:
                held[first - start : last - start] = data[first - op.offset : last - op.offset]
        missing.remove(row["start"], row["end"])
        if not missing:
            break
    return bytes(held)


def to_op(row: dict[str, object]) -> Op:
    """Return a row of a frame as an op that has the fields needed to find its data."""
    fields = {"seq": row["seq"], "offset": row["offset_bytes"], "length": row["length_bytes"]}
    fields |= {"payload": row["payload"], "digest": row["digest"]}
    return Op(kind=NUMBERS[str(row["kind"])], **fields)  # type: ignore[arg-type]
