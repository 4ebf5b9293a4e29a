"""Compare two files of the same kind: recordings, or verdicts of ``trace replay --json``.

Verdicts are compared as JSON, not as the model, so that verdicts of other versions with other
fields can be compared too.
"""

from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

from analysis.story.contents import op_as_dict
from tracer.errors import TraceError, UsageError
from tracer.rework.diff import Diff, diff_traces
from tracer.verdict import EFFORT, HOW
from tracer.verdict_file import is_json, read_object

_MISSING = object()


def diff(a: Path, b: Path, *, timing: bool = False) -> Diff:
    """Compare two recordings op by op, or two verdicts field by field. With ``timing``, compare the
    times of ops, or what the verdicts took, as well.

    Raises UsageError if one file is JSON and the other is not, TraceError if a file cannot be read
    or is neither a trace nor a verdict.
    """
    verdicts = [_is_json(path) for path in (a, b)]
    if verdicts[0] != verdicts[1]:
        verdict, trace = (a, b) if verdicts[0] else (b, a)
        raise UsageError(f"{verdict} is JSON and {trace} is not: give two traces, or two verdicts")
    return (diff_verdicts if verdicts[0] else diff_traces)(a, b, timing=timing)


def diff_verdicts(a: Path, b: Path, *, timing: bool = False) -> Diff:
    """Compare the verdicts in two files field by field; with ``timing`` also what they took. Raises
    TraceError if a file cannot be read or is not a verdict."""
    result = Diff("verdicts", str(a), str(b))
    try:
        _walk(result, "", _object(a), _object(b), HOW if timing else HOW | EFFORT)
    except RecursionError as error:
        raise TraceError(f"{a} or {b} is not a verdict: it is nested too deep") from error
    return result


def as_json(result: Diff) -> dict[str, Any]:
    """Return the result as ``trace diff --json`` prints it."""
    ops = {"op_a": result.op_a, "op_b": result.op_b}
    shown = {name: None if op is None else op_as_dict(op) for name, op in ops.items()}
    return {**asdict(result), **shown, "same": result.same}


def _is_json(path: Path) -> bool:
    try:
        return is_json(path)
    except OSError as error:
        raise TraceError(f"cannot open {path}: {error.strerror}") from error


def _object(path: Path) -> dict[str, Any]:
    """Return the JSON object of a verdict's file. Raises TraceError if it has none."""
    try:
        found = read_object(path)
    except OSError as error:
        raise TraceError(f"cannot open {path}: {error.strerror}") from error
    except UsageError as error:
        raise TraceError(str(error)) from error
    if not isinstance(found.get("verdict"), str):
        raise TraceError(f"{path} is not a verdict: it has no field verdict")
    return found


def _walk(result: Diff, name: str, a: Any, b: Any, skipped: frozenset[str]) -> None:
    """Note every leaf that differs by its path: ``culprit.seq``, ``damage[0].sector``."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(key for key in b if key not in a)]:
            if key not in skipped:
                path = f"{name}.{key}" if name else key
                _walk(result, path, a.get(key, _MISSING), b.get(key, _MISSING), skipped)
    elif isinstance(a, list) and isinstance(b, list):
        for index, (left, right) in enumerate(zip_longest(a, b, fillvalue=_MISSING)):
            _walk(result, f"{name}[{index}]", left, right, skipped)
    elif a != b:
        result.note(name, *(None if value is _MISSING else value for value in (a, b)))
