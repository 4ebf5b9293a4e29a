"""The versions that a sector should have held, as ``trace history`` prints them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.frames.columns import in_ns
from analysis.frames.frames import Frames
from tracer.trace.file import Trace
from tracer.trace.marks import resolve_upto


@dataclass(frozen=True, slots=True)
class History:
    """The versions of a sector, sorted by seq."""

    trace: str
    sector: int
    at: int | None
    """The last op that was considered; None if that is the end of the trace."""
    versions: list[dict[str, Any]]
    """The columns of ``Frames.versions``, without the place; the digest is in hexadecimal,
    times are ns."""


def history(path: Path, sector: int, at: str | None = None) -> History:
    """Return the versions of a sector up to an op or a mark (None: the end).

    Raises UsageError if the disk has no such sector or the trace has no such op or mark, TraceError
    if the trace cannot be read.
    """
    with Frames(path) as frames, Trace(path) as trace:
        frames.check_sector(sector)
        before = frames.last + 1 if at is None else resolve_upto(trace, at)
        found = in_ns(frames.versions(range(sector, sector + 1))).drop("sector", "sectors")
    versions = [
        row
        | {
            "digest": row["digest"] and row["digest"].hex(),
            "read_by": [seq for seq in row["read_by"] if seq < before],
        }
        for row in found.rows(named=True)
        if row["seq"] is None or row["seq"] < before
    ]
    return History(str(path), sector, None if at is None else before - 1, versions)
