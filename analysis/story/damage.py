"""The damage of a verdict as a frame."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from tracer.errors import UsageError
from tracer.verdict import Recording, Verdict, from_json, to_json
from tracer.verdict_file import read_object

_COLUMNS = {"sector": pl.Int64(), "sectors": pl.Int64()}


def damage(
    verdict: Verdict | Recording | Mapping[str, Any] | str | os.PathLike[str],
) -> pl.DataFrame:
    """Return the damaged ranges of a verdict as a frame, sorted by sector.

    ``verdict`` is the result of a replay or of a recording: the object, its JSON as a dict, or the
    path of a file with that JSON. Each row is a range: ``sector`` and ``sectors`` (Int64, the first
    sector and how many, of 512 bytes). A replay's verdict has more columns: ``class``, ``source``,
    ``detail``, ``text``, ``writer``. Raises UsageError if it is not a verdict or the file cannot be
    read.
    """
    found = verdict if isinstance(verdict, Verdict | Recording) else _read(verdict)
    ranges = to_json(found)["damage"]
    if not ranges:
        return pl.DataFrame(schema=_COLUMNS)
    frame = pl.DataFrame(ranges, schema_overrides=_COLUMNS, infer_schema_length=None, strict=False)
    return frame.sort("sector")


def _read(verdict: Mapping[str, Any] | str | os.PathLike[str]) -> Verdict | Recording:
    raw: object = verdict
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
