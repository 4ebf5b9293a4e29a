"""The damage of a verdict as a frame."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from tracer.errors import UsageError
from tracer.verdict import Recording, Verdict, from_json, to_json
from tracer.verdict_file import read_object

RANGES = pl.Schema({"sector": pl.Int64(), "sectors": pl.Int64()})
"""The columns of a recording's damage."""

_ORIGIN = pl.Struct(
    {
        "seq": pl.Int64(),
        "kind": pl.String(),
        **dict.fromkeys(("offset", "length", "at"), pl.Int64()),
    }
)

DAMAGE = pl.Schema(
    {
        **RANGES,
        "class": pl.String(),
        "source": _ORIGIN,
        "detail": pl.Struct(
            {
                **dict.fromkeys(("boundary", "into_op", "power_of_two", "room"), pl.Int64()),
                "arrived": pl.String(),
                "bits": pl.Int64(),
                "first": pl.List(pl.List(pl.Int64())),
                **dict.fromkeys(("by", "versions_back", "meant_for"), pl.Int64()),
            }
        ),
        "text": pl.String(),
        "writer": _ORIGIN,
    }
)
"""The columns of a replay's damage. Offsets, lengths and distances are bytes."""


def damage(
    verdict: Verdict | Recording | Mapping[str, Any] | str | os.PathLike[str],
) -> pl.DataFrame:
    """Return the damaged ranges of a verdict as a frame, sorted by sector.

    ``verdict`` is the result of a replay or of a recording: the object, its JSON as a dict, or the
    path of a file with that JSON. Each row is a range. The columns are those of DAMAGE, or of
    RANGES for a recording. Raises UsageError if it is not a verdict or the file cannot be read.
    """
    found = verdict if isinstance(verdict, Verdict | Recording) else _read(verdict)
    schema = DAMAGE if isinstance(found, Verdict) else RANGES
    # a key that a range lacks is null
    return pl.DataFrame(to_json(found)["damage"], schema=schema).sort("sector")


def _read(verdict: Mapping[str, Any] | str | os.PathLike[str]) -> Verdict | Recording:
    raw: object = verdict
    if not isinstance(verdict, Mapping | str | os.PathLike):
        raise UsageError(
            f"damage is of a verdict, its JSON or a file with it, not of a {type(verdict).__name__}"
        )
    if isinstance(verdict, str | os.PathLike):
        try:
            raw = read_object(Path(verdict), "this")
        except OSError as error:
            raise UsageError(
                f"cannot read the verdict {error.filename}: {error.strerror}"
            ) from error
    if isinstance(raw, Mapping) and "mismatches" in raw:
        return from_json(raw, Recording)
    return from_json(raw, Verdict)
