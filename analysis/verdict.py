"""Reads back what ``trace replay --json`` prints."""

import json
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracer import text
from tracer.errors import UsageError
from tracer.op import SECTOR

SCHEMA = 1

_SOURCE = {"seq": int, "kind": str, "offset": int, "length": int, "at": int}
_RANGES = [
    {
        "sector": int,
        "sectors": int,
        "class": (str, None),
        "source": (_SOURCE, None),
        "text": (str, None),
    }
]
_SHAPE = {
    "schema": int,
    "verdict": str,
    "reason": str,
    "driver": str,
    "trace": str,
    "size": int,
    "culprit": (
        {"seq": int, "kind": str, "offset": int, "length": int, "flags": [str], "submitted": int},
        None,
    ),
    "damage": _RANGES,
    "culprit_damage": _RANGES,
    "first_bad_read": ({"seq": int, "sector": int}, None),
}
"""What a verdict has, at least. A tuple names alternatives; None also stands for what is missing."""

_BYTES = {"sector": int, "offset": int, "expected": bytes, "actual": bytes}
_MORE: dict[str, tuple[Any, Any]] = {
    "ops": (int, 0),
    "replayed_ops": (int, 0),
    "runs": (int, 0),
    "confirm_ops": (int, 0),
    "confirmed": (bool, False),
    "shown": (int, 0),
    "tries": (int, 0),
    "clean_without": (int, 0),
    "detected": (int, 1),
    "seed": (int, 0),
    "needs_company": ((bool, None), None),
    "symptom": ((str, None), None),
    "located": (bool, True),
    "reader": ((str, None), None),
    "volatile": (bool, False),
    "bytes": ((_BYTES, None), None),
    "log": (str, ""),
    "plot": ((str, None), None),
    "command": ([str], []),
    "environment": (dict, {}),
}
"""What it may have besides, and what stands for it where it is missing."""

_MAX_INT = (1 << 63) - 1

_SECTOR_HEX = re.compile(f"(?:[0-9a-f]{{2}}){{1,{SECTOR}}}")
"""The bytes of a sector, or of a part."""


def is_verdict(path: Path) -> bool:
    """Whether a file is rather a verdict than a trace: JSON begins with a brace, no trace does. Raises
    UsageError for what is no file or cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for someone to write to it
            raise UsageError(f"{path} is no file")
        with open(path, "rb") as file:
            return file.read(64).lstrip().startswith(b"{")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def find_trace(verdict: Mapping[str, Any], path: Path) -> Path:
    """The trace that the verdict in file ``path`` names: beside that file, else where it was when the
    verdict was made. Raises UsageError where there is none."""
    named = Path(verdict["trace"])
    for place in (path.parent / named, named, path.parent / named.name):
        if place.is_file():
            return place
    raise UsageError(f"there is no trace {text.plain(verdict['trace'])}: say where it is with --trace")


def load(path: Path) -> dict[str, Any]:
    """The verdict in a file. Raises UsageError for a file that has none, and OSError."""
    if not is_verdict(path):  # a trace may be large: see what it is before reading on
        raise UsageError(f"{path} is no verdict: give a file with what trace replay --json prints")
    try:
        verdict = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise UsageError(f"{path} is no verdict: it is not JSON, or torn") from None
    if isinstance(verdict, dict) and verdict.get("schema") not in (None, SCHEMA):
        raise UsageError(f"{path} has schema {verdict['schema']!r}; this version reads {SCHEMA}")
    wrong = _misfit(verdict, _SHAPE, "")
    if wrong is None:
        verdict = {name: usual for name, (_, usual) in _MORE.items()} | verdict
        wrong = _misfit(verdict, {name: shape for name, (shape, _) in _MORE.items()}, "")
    if wrong is None:
        sectors = -(-verdict["size"] // SECTOR)
        for name in ("damage", "culprit_damage"):
            if any(one["sector"] + one["sectors"] > sectors for one in verdict[name]):
                wrong = name
        shown = verdict["bytes"]
        if shown is not None and len(shown["expected"]) != len(shown["actual"]):
            wrong = "bytes"
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
    if shape is str:
        return None if isinstance(value, str) and _is_unicode(value) else name
    if shape is bytes:
        return None if isinstance(value, str) and _SECTOR_HEX.fullmatch(value) else name
    if shape in (bool, dict):
        return None if isinstance(value, shape) else name
    return None if value is shape else name


def _is_unicode(words: str) -> bool:
    """Whether this can be text or a file's name; JSON can say more. (Of a name, bytes that are no UTF-8
    are surrogates in Python.)"""
    try:
        words.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
