"""Where two recordings, or two verdicts, part."""

import json
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tracer.errors import Exit, TraceError, UsageError
from tracer.op import KIND_BY_NUMBER, Op, flag_names
from tracer.progress import bar
from tracer.source import by_seq
from tracer.trace import Trace

MAX_VERDICT = 256 << 20
"""Bytes in a verdict: far more than one with every damaged sector of a large disk has."""

MAX_FIELDS = 1000
"""Fields of two verdicts that are told apart; more would say nothing new."""

DISK = ("size", "trim", "start_image")
"""What a trace's header says of the disk, and so of what its ops mean."""

OUTCOME = ("kind", "flags", "offset", "length", "digest", "reference_status", "test_status")
TIMING = ("submitted", "completed", "reference_ns", "test_ns")

HOW = frozenset({"schema", "trace", "driver", "plot", "log", "command", "environment"})
"""Fields of a verdict that say what was judged and where things are, not what was found."""

EFFORT = frozenset({"replayed_ops", "runs", "tries", "submitted"})
"""Fields of a verdict that depend on time and on luck."""

_MISSING = object()


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that differs, and what it is on each side (None where it is missing)."""

    name: str
    a: Any
    b: Any


@dataclass(slots=True)
class Diff:
    """What differs between ``a`` and ``b``. For recordings ``alike`` ops come before the first that
    differs; ``op_a`` and ``op_b`` are that op, None where a recording has ended."""

    kind: str
    a: str
    b: str
    fields: list[Field] = field(default_factory=list)
    alike: int | None = None
    op_a: Op | None = None
    op_b: Op | None = None
    schema: int = 1

    @property
    def same(self) -> bool:
        return not (self.fields or self.op_a or self.op_b)

    @property
    def exit_code(self) -> int:
        return Exit.CLEAN if self.same else Exit.DIFFERENT


def diff(a: Path, b: Path, *, timing: bool = False) -> Diff:
    """Compare two recordings op by op, or two verdicts field by field. Raises TraceError where one is
    neither, UsageError where they are not of the same kind."""
    texts = [_starts_as_json(path) for path in (a, b)]
    if texts == [True, True]:
        return _diff_verdicts(a, b, timing)
    if texts == [False, False]:
        return _diff_traces(a, b, timing)
    verdict, trace = (a, b) if texts[0] else (b, a)
    raise UsageError(f"{verdict} is JSON and {trace} is not: give two traces, or two verdicts")


def _starts_as_json(path: Path) -> bool:
    """Whether a file is JSON rather than a trace, whose first byte is that of a msgpack map."""
    try:
        with path.open("rb") as file:
            return file.read(64).lstrip()[:1] == b"{"
    except OSError as error:
        raise TraceError(f"cannot open {path}: {error.strerror}") from error


# ---------------------------------------------------------------- recordings


def _diff_traces(a: Path, b: Path, timing: bool) -> Diff:
    with Trace(a) as left, Trace(b) as right:
        return _compare_traces(left, right, timing)


def _compare_traces(left: Trace, right: Trace, timing: bool) -> Diff:
    result = Diff("traces", str(left.path), str(right.path))
    for name in DISK:
        _compare(
            result.fields, f"header.{name}", getattr(left.header, name), getattr(right.header, name)
        )
    names = OUTCOME + TIMING if timing else OUTCOME
    with bar("comparing", max(left.count, right.count), "ops") as progress:
        alike = 0
        for one, other in zip_longest(by_seq(left.ops()), by_seq(right.ops())):
            if (
                one is None
                or other is None
                or any(getattr(one, name) != getattr(other, name) for name in names)
            ):
                result.op_a, result.op_b = one, other
                break
            alike += 1
            progress(1)
    result.alike = alike
    if result.op_a is not None and result.op_b is not None:
        for name in names:
            _compare(result.fields, name, _shown(result.op_a, name), _shown(result.op_b, name))
    return result


def _shown(op: Op, name: str) -> Any:
    """A field of an op as it goes into JSON."""
    value = getattr(op, name)
    if name == "kind":
        return KIND_BY_NUMBER[value].label
    if name == "flags":
        return flag_names(value)
    return value.hex() if name == "digest" else value


# ---------------------------------------------------------------- verdicts


def _diff_verdicts(a: Path, b: Path, timing: bool) -> Diff:
    result = Diff("verdicts", str(a), str(b))
    skipped = HOW if timing else HOW | EFFORT
    try:
        _walk(result.fields, "", _verdict(a), _verdict(b), skipped)
    except RecursionError as error:
        raise TraceError(f"{a} or {b} is no verdict: it is nested too deep") from error
    return result


def _verdict(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_VERDICT:
            raise TraceError(f"{path} is no verdict: it is too large")
        verdict = json.loads(path.read_bytes())
    except OSError as error:
        raise TraceError(f"cannot open {path}: {error.strerror}") from error
    except ValueError as error:
        raise TraceError(f"{path} is no verdict: {error}") from error
    if not isinstance(verdict, dict) or not isinstance(verdict.get("verdict"), str):
        raise TraceError(f"{path} is no verdict: it does not say one")
    return verdict


def _walk(fields: list[Field], name: str, a: Any, b: Any, skipped: frozenset[str]) -> None:
    """Note every leaf in which ``a`` and ``b`` differ, by its path: ``culprit.seq``, ``damage[0]``."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(key for key in b if key not in a)]:
            if key not in skipped:
                path = f"{name}.{key}" if name else key
                _walk(fields, path, a.get(key, _MISSING), b.get(key, _MISSING), skipped)
    elif isinstance(a, list) and isinstance(b, list):
        for index, (one, other) in enumerate(zip_longest(a, b, fillvalue=_MISSING)):
            _walk(fields, f"{name}[{index}]", one, other, skipped)
    else:
        _compare(fields, name, a, b)


def _compare(fields: list[Field], name: str, a: Any, b: Any) -> None:
    if a != b and len(fields) < MAX_FIELDS:
        a, b = (None if value is _MISSING else value for value in (a, b))
        fields.append(Field(name, a, b))
