"""What two verdicts of ``trace replay --json`` say differently.

The JSON is compared, not the model: verdicts of other versions, with other fields, can be compared too.
"""

from itertools import zip_longest
from pathlib import Path
from typing import Any

from tracer.errors import TraceError, UsageError
from tracer.rework.diff import Diff
from tracer.verdict import EFFORT, HOW
from tracer.verdict_file import read_object

_MISSING = object()


def diff_verdicts(a: Path, b: Path, *, timing: bool = False) -> Diff:
    """Compare the verdicts in two files field by field; with ``timing`` also what they took. Raises
    TraceError where one is no verdict."""
    result = Diff("verdicts", str(a), str(b))
    try:
        _walk(result, "", _object(a), _object(b), HOW if timing else HOW | EFFORT)
    except RecursionError as error:
        raise TraceError(f"{a} or {b} is no verdict: it is nested too deep") from error
    return result


def _object(path: Path) -> dict[str, Any]:
    try:
        found = read_object(path)
    except OSError as error:
        raise TraceError(f"cannot open {path}: {error.strerror}") from error
    except UsageError as error:
        raise TraceError(str(error)) from error
    if not isinstance(found.get("verdict"), str):
        raise TraceError(f"{path} is no verdict: it does not say one")
    return found


def _walk(result: Diff, name: str, a: Any, b: Any, skipped: frozenset[str]) -> None:
    """Note every leaf in which ``a`` and ``b`` differ, by its path: ``culprit.seq``, ``damage[0]``."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(key for key in b if key not in a)]:
            if key not in skipped:
                path = f"{name}.{key}" if name else key
                _walk(result, path, a.get(key, _MISSING), b.get(key, _MISSING), skipped)
    elif isinstance(a, list) and isinstance(b, list):
        for index, (one, other) in enumerate(zip_longest(a, b, fillvalue=_MISSING)):
            _walk(result, f"{name}[{index}]", one, other, skipped)
    elif a != b:
        result.note(name, *(None if value is _MISSING else value for value in (a, b)))
