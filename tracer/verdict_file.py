"""Reads a verdict from the file that ``trace replay --json`` was printed to."""

import json
import stat
from errno import EINVAL
from pathlib import Path
from typing import Any

from tracer import text
from tracer.errors import UsageError
from tracer.verdict import Verdict, from_json

MAX_BYTES = 256 << 20
"""Bytes in a verdict: far more than one with every damaged sector of a large disk has."""


def is_json(path: Path) -> bool:
    """Whether a file begins with a brace, as a JSON object does and a trace does not. Raises OSError."""
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe waits for someone to write to it
        raise OSError(EINVAL, "it is no file", str(path))
    with open(path, "rb") as file:
        return file.read(64).lstrip().startswith(b"{")


def is_verdict(path: Path) -> bool:
    """Whether a file is a verdict rather than a trace. Raises UsageError where it cannot be read."""
    try:
        return is_json(path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def read_object(path: Path, name: str | None = None) -> dict[str, Any]:
    """The JSON object in a verdict's file, not checked any further. Raises OSError, and UsageError,
    which calls the file by ``name`` or else by its path."""
    name = str(path) if name is None else name
    if not is_json(path):  # a trace may be large: see what it is before reading on
        raise UsageError(f"{name} is no verdict: give what trace replay --json prints, in a file")
    if path.stat().st_size > MAX_BYTES:
        raise UsageError(f"{name} is no verdict: it is too large")
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        problem = "it is not JSON, or torn, or nested too deep"
        raise UsageError(f"{name} is no verdict: {problem}") from None
    return found


def load(path: Path) -> Verdict:
    """The verdict of a replay in a file. Raises UsageError where the file has none or cannot be read."""
    try:
        return from_json(read_object(path), Verdict, name=str(path))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def find_trace(verdict: Verdict, path: Path) -> Path:
    """The trace that the verdict in file ``path`` names: beside that file, else where it was when the
    verdict was made. Raises UsageError where there is none."""
    named = Path(verdict.trace)
    for place in (path.parent / named, named, path.parent / named.name):
        if place.is_file():
            return place
    raise UsageError(
        f"there is no trace {text.printable(verdict.trace)}: say where it is with --trace"
    )
