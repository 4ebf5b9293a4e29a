"""Reads back what ``trace replay --json`` prints."""

import json
from pathlib import Path
from typing import Any

from tracer.errors import UsageError
from tracer.op import SECTOR

SCHEMA = 1

_RANGES = [{"sector": int, "sectors": int}]
_SHAPE = {
    "schema": int,
    "verdict": str,
    "reason": str,
    "driver": str,
    "trace": str,
    "size": int,
    "culprit": ({"seq": int, "kind": str, "offset": int, "length": int, "flags": [str]}, None),
    "damage": _RANGES,
    "culprit_damage": _RANGES,
    "first_bad_read": ({"seq": int, "sector": int}, None),
}
"""What a verdict has, at least: a tuple names alternatives."""

_MAX_INT = (1 << 63) - 1


def load(path: Path) -> dict[str, Any]:
    """The verdict in a file. Raises UsageError for a file that has none, and OSError."""
    with open(path, "rb") as file:
        # a trace may be large: see what it is before reading on
        if not file.read(64).lstrip().startswith(b"{"):
            raise UsageError(f"{path} is no verdict: give a file with what trace replay --json prints")
        file.seek(0)
        content = file.read()
    try:
        verdict = json.loads(content)
    except (ValueError, RecursionError):
        raise UsageError(f"{path} is no verdict: it is not JSON, or torn") from None
    if isinstance(verdict, dict) and verdict.get("schema") not in (None, SCHEMA):
        raise UsageError(f"{path} has schema {verdict['schema']!r}; this version reads {SCHEMA}")
    wrong = _misfit(verdict, _SHAPE, "")
    if wrong is None:
        sectors = -(-verdict["size"] // SECTOR)
        for name in ("damage", "culprit_damage"):
            if any(one["sector"] + one["sectors"] > sectors for one in verdict[name]):
                wrong = name
    if wrong is not None:
        raise UsageError(f"{path} is no verdict: {wrong} is missing or wrong")
    return dict(verdict)


def _misfit(value: Any, shape: Any, name: str) -> str | None:
    """The name of the first thing that has not the shape that it should have."""
    if isinstance(shape, tuple):
        return None if any(_misfit(value, one, name) is None for one in shape) else name
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return name or "the whole"
        wrong = (_misfit(value.get(key), inner, key) for key, inner in shape.items())
        return next((one for one in wrong if one is not None), None)
    if isinstance(shape, list):
        fits = isinstance(value, list) and all(_misfit(one, shape[0], name) is None for one in value)
        return None if fits else name
    if shape is int:
        # JSON has no limit; polars and numpy have, and nothing in a verdict is below 0
        return None if type(value) is int and 0 <= value <= _MAX_INT else name
    return None if value is shape or (shape is str and isinstance(value, str)) else name
