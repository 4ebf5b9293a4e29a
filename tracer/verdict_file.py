"""Read a verdict from a file with the output of ``trace replay --json``, and find its trace."""

import json
import math
import stat
from errno import EINVAL
from pathlib import Path
from typing import Any

from tracer import text
from tracer.errors import UsageError
from tracer.verdict import Verdict, from_json

MAX_BYTES = 24 << 20
"""The largest verdict file, in bytes: room for 40,000 ranges of damage. As text in memory, a file
may take four times as much."""

MAX_VALUES = 1 << 20
"""The most values in a verdict. Each takes up to 100 bytes of memory, and three of the file."""


MAX_DEPTH = 32
"""Lists and objects inside each other. A header's map, 16 deep, is the deepest in a verdict."""


def is_json(path: Path) -> bool:
    """Whether a file begins with a brace, as a JSON object does and a trace does not.

    Raises OSError, also if ``path`` is not a regular file.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would block until it has a writer
        raise OSError(EINVAL, "it is not a file", str(path))
    with open(path, "rb") as file:
        return file.read(64).lstrip().startswith(b"{")


def is_verdict(path: Path) -> bool:
    """Whether a file is a verdict, not a trace. Raises UsageError if the file cannot be read."""
    try:
        return is_json(path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def read_object(path: Path, name: str | None = None) -> dict[str, Any]:
    """Return the JSON object in a verdict's file, without further checks.

    Raises OSError, or UsageError if the file is not JSON or is too large. ``name`` stands for the
    file in the message; the default is its path.
    """
    name = str(path) if name is None else name
    if not is_json(path):  # check this first: a trace may be too large to read
        raise UsageError(
            f"{name} is not a verdict: give a file with the output of trace replay --json"
        )
    with open(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES or sum(map(content.count, (b",", b":", b"[", b"{"))) > MAX_VALUES:
        raise UsageError(f"{name} is not a verdict: it is too large")
    try:
        found: dict[str, Any] = json.loads(
            content, parse_constant=_refuse, parse_float=_finite_float
        )
    except (ValueError, RecursionError):
        problem = "it is not JSON, or torn, or nested too deep"
        raise UsageError(f"{name} is not a verdict: {problem}") from None
    if _depth(found) > MAX_DEPTH:
        raise UsageError(f"{name} is not a verdict: it is nested too deep")
    return found


def _depth(value: object) -> int:
    """Return how deep lists and objects are inside each other; MAX_DEPTH + 1 if deeper."""
    level: list[object] = [value]
    for depth in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return depth
    return MAX_DEPTH + 1


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")  # though Python's parser takes NaN and Infinity


def _finite_float(word: str) -> float:
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"{word} is too large")
    return number


def load(path: Path) -> Verdict:
    """Return the verdict in a file. Raises UsageError if it has none or cannot be read."""
    try:
        return from_json(read_object(path), Verdict, name=str(path))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def find_trace(verdict: Verdict, path: Path) -> Path:
    """Return the path of the trace that a verdict names.

    Looks beside the verdict's file, ``path``, then where the trace was when it was replayed. Raises
    UsageError if it is in neither place.
    """
    named = Path(verdict.trace)
    for place in (path.parent / named, named, path.parent / named.name):
        if place.is_file():
            return place
    raise UsageError(
        f"there is no trace {text.printable(verdict.trace)}: say where it is with --trace"
    )
