"""What a picture shows: the guest's ops of a trace or some of them, on the disk or a part of it."""

from dataclasses import dataclass

import polars as pl
from polars.exceptions import PolarsError

from analysis.frames.columns import OPS, in_ns
from analysis.frames.frames import Frames
from tracer.errors import UsageError

Some = pl.LazyFrame | pl.DataFrame
"""Some of a trace's ops."""

_SHORT = {"offset_bytes": "offset", "length_bytes": "length"}
"""The names that pictures use for columns."""

_ALWAYS = ("seq", "kind", "offset_bytes", "length_bytes", "submitted", "completed")
"""The columns that every picture needs."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a picture shows."""

    trace: Frames
    ops: pl.LazyFrame
    """The ops: ``offset`` and ``length`` in bytes, times in ns. Pieces of the start image are left
    out: they are not requests of a guest."""
    start: int
    end: int
    """The bytes ``[start, end)`` of the disk that are shown."""
    some: bool
    """Whether these are not all ops of the trace."""

    @property
    def size(self) -> int:
        """Bytes of the disk that are shown."""
        return self.end - self.start

    @property
    def low(self) -> pl.Expr:
        """Where an op begins, in bytes from ``start``, cut off to what is shown."""
        return pl.max_horizontal("offset", pl.lit(self.start)) - self.start

    @property
    def high(self) -> pl.Expr:
        """Where an op ends, in bytes from ``start``, cut off to what is shown."""
        return pl.min_horizontal(pl.col("offset") + pl.col("length"), pl.lit(self.end)) - self.start

    @property
    def marks(self) -> pl.DataFrame:
        """The trace's marks; times are ns."""
        return in_ns(self.trace.marks)

    @property
    def mismatches(self) -> pl.DataFrame:
        """The trace's mismatches in what is shown: ``seq`` and ``offset``, in bytes."""
        found = self.trace.mismatches.select("seq", offset="offset_bytes")
        return found.filter(pl.col("offset").is_between(self.start, self.end, closed="left"))


def subject_of(
    trace: Frames, ops: Some | None = None, sectors: range | None = None, *needed: str
) -> Subject:
    """Return what a picture shows.

    ``ops``: the ops to draw, from ``trace.ops``; None: all. ``sectors``: the part of the disk to
    draw, and only the ops that touch it; None: the whole disk. ``needed``: the columns of
    ``trace.ops`` that the picture needs besides those that all need.

    Raises UsageError if an argument is wrong, TraceError if the trace is damaged.
    """
    if not isinstance(trace, Frames):
        raise UsageError(
            f"a picture is of a trace, not of a {type(trace).__name__}: open the trace, and give a "
            "filtered frame as ops="
        )
    start, end = (0, trace.header.size) if sectors is None else trace.byte_range(sectors)
    chosen = trace.ops if ops is None else _checked(ops, [*_ALWAYS, *needed])
    chosen = in_ns(chosen.filter(pl.col("kind") != "start").select(*_ALWAYS, *needed))
    chosen = chosen.rename(_SHORT)
    if sectors is not None:
        offset, length = pl.col("offset"), pl.col("length")
        chosen = chosen.filter(length > 0, offset < end, offset + length > start)
    return Subject(trace, chosen, start, end, ops is not None or sectors is not None)


def _checked(ops: object, needed: list[str]) -> pl.LazyFrame:
    """Return ops that the caller gave as a lazy frame. Raises UsageError if it is not one, or lacks
    a column."""
    if not isinstance(ops, pl.LazyFrame | pl.DataFrame):
        raise UsageError(f"ops= wants a polars frame of ops, not a {type(ops).__name__}")
    lazy = ops.lazy()
    try:
        schema = lazy.collect_schema()
    except PolarsError as error:
        raise UsageError(f"ops= is a query that fails: {str(error).splitlines()[0]}") from error
    for name in needed:
        if name not in schema:
            raise UsageError(f"this picture needs the column {name!r}, which ops= lacks: keep it")
        if schema[name] != OPS[name]:
            raise UsageError(
                f"the column {name!r} of ops= has the dtype {schema[name]}; it is {OPS[name]} in a "
                "trace's ops"
            )
    return lazy
