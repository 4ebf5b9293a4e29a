"""A verdict's damage as a frame."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import polars as pl

from tracer.errors import UsageError

_COLUMNS = {"sector": pl.Int64(), "sectors": pl.Int64()}


def damage(verdict: Mapping[str, Any] | str | os.PathLike[str] | object) -> pl.DataFrame:
    """The damaged ranges that a verdict tells of, by sector.

    ``verdict`` is what ``trace replay --json`` or ``trace record --json`` prints: as a dict, as the file
    it is in, or the object itself. One row per range: ``sector``, ``sectors`` (of 512 bytes), and
    whatever else the verdict says of it. Raises UsageError where this is no verdict.
    """
    try:
        if isinstance(verdict, str | os.PathLike):
            verdict = json.loads(Path(verdict).read_bytes())
        elif is_dataclass(verdict) and not isinstance(verdict, type):
            verdict = asdict(verdict)
        if not isinstance(verdict, Mapping):
            raise TypeError
        ranges = [{**one, **{name: int(one[name]) for name in _COLUMNS}} for one in verdict["damage"]]
    except OSError as error:
        raise UsageError(f"cannot read the verdict {error.filename}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError("this is no verdict: give what trace replay --json prints") from error
    if not ranges:
        return pl.DataFrame(schema=_COLUMNS)
    found = pl.DataFrame(ranges, schema_overrides=_COLUMNS, infer_schema_length=None, strict=False)
    return found.sort("sector")
