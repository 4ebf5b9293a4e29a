"""``trace diff``: find the first op in which two recordings differ."""

from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tracer.errors import Exit
from tracer.op import KIND_BY_NUMBER, Op, flag_names
from tracer.progress import bar
from tracer.trace.file import Trace
from tracer.trace.order import by_seq

MAX_FIELDS = 1000
"""The most differing fields that are listed. More would add nothing."""

DISK = ("size", "trim", "start_image")
"""The fields of a header that affect what the ops do to the disk."""

OUTCOME = ("kind", "flags", "offset", "length", "digest", "reference_status", "test_status")
"""The fields of an op that are always compared."""

TIMING = ("submitted", "completed", "reference_ns", "test_ns")
"""The fields of an op that are compared on request."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field that differs, and its value on each side (None if it is missing there)."""

    name: str
    a: Any
    b: Any


@dataclass(slots=True)
class Diff:
    """What differs between ``a`` and ``b``: two recordings, or two verdicts
    (analysis/story/diff.py).

    For recordings, ``alike`` is the number of ops before the first op that differs; ``op_a`` and
    ``op_b`` are that op on each side, None if that recording has no more ops.
    """

    kind: str
    a: str
    b: str
    fields: list[Field] = field(default_factory=list)
    alike: int | None = None
    op_a: Op | None = None
    op_b: Op | None = None
    schema: int = 1

    def note(self, name: str, a: Any, b: Any) -> None:
        """Add a field that differs, up to MAX_FIELDS."""
        if len(self.fields) < MAX_FIELDS:
            self.fields.append(Field(name, a, b))

    @property
    def same(self) -> bool:
        return not (self.fields or self.op_a or self.op_b)

    @property
    def exit_code(self) -> int:
        return Exit.CLEAN if self.same else Exit.DIFFERENT


def diff_traces(a: Path, b: Path, *, timing: bool = False) -> Diff:
    """Compare two recordings op by op, in order of submission; with ``timing`` compare their times
    too. Raises TraceError if one of them cannot be read."""
    with Trace(a) as left, Trace(b) as right:
        return _compare_traces(left, right, timing)


def _compare_traces(left: Trace, right: Trace, timing: bool) -> Diff:
    result = Diff("traces", str(left.path), str(right.path))
    for name in DISK:
        in_a, in_b = getattr(left.header, name), getattr(right.header, name)
        if in_a != in_b:
            result.note(f"header.{name}", in_a, in_b)
    names = OUTCOME + TIMING if timing else OUTCOME
    with bar("comparing", max(left.count, right.count), "ops") as progress:
        alike = 0
        for op_a, op_b in zip_longest(
            by_seq(left.ops(), left.recorded), by_seq(right.ops(), right.recorded)
        ):
            if (
                op_a is None
                or op_b is None
                or any(getattr(op_a, name) != getattr(op_b, name) for name in names)
            ):
                result.op_a, result.op_b = op_a, op_b
                break
            alike += 1
            progress(1)
    result.alike = alike
    if result.op_a is not None and result.op_b is not None:
        for name in names:
            in_a, in_b = _shown(result.op_a, name), _shown(result.op_b, name)
            if in_a != in_b:
                result.note(name, in_a, in_b)
    return result


def _shown(op: Op, name: str) -> Any:
    """Return a field of an op as JSON shows it."""
    value = getattr(op, name)
    if name == "kind":
        return KIND_BY_NUMBER[value].label
    if name == "flags":
        return flag_names(value)
    return value.hex() if name == "digest" else value
