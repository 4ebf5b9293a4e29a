"""``trace diff``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blkbox.commands.options import AsJson

if TYPE_CHECKING:
    from tracer.rework.diff import Diff

WIDTH = 64
"""The most characters of a value that a line shows."""


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="A trace, or a verdict as JSON.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another file of the same kind.")],
    timing: Annotated[
        bool,
        typer.Option("--timing", help="Also compare the times of ops, or the cost of verdicts."),
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Find the first op that differs in two recordings.

    For two verdicts of "trace replay --json", list the fields that differ.

    Example: trace diff monday.trace tuesday.trace

    Ops are compared in the order of submission: kind, flags, offset, length, digest and outcome.
    Exits with 0 if there is no difference and with 1 if there is one, as diff does.
    """
    from analysis.story.diff import as_json as to_json
    from analysis.story.diff import diff

    result = diff(a, b, timing=timing)
    print(json.dumps(to_json(result), indent=2) if as_json else _page(result))
    return result.exit_code


def _page(result: "Diff") -> str:
    from tracer.text import ops, printable

    lines = []
    if result.alike is not None:
        first = "the first op is" if result.alike == 1 else f"the first {ops(result.alike)} are"
        lines.append(f"{first} alike")
    for side, op in ((result.a, result.op_a), (result.b, result.op_b)):
        if result.op_a is not None or result.op_b is not None:
            lines.append(f"{side}: {op.describe() if op is not None else 'has ended'}")
    width = max((len(field.name) for field in result.fields), default=0)
    lines += [
        f"{field.name:{width}}  {_value(field.a)} | {_value(field.b)}" for field in result.fields
    ]
    lines.append("no difference" if result.same else "they differ")
    return "\n".join(printable(line) for line in lines)


def _value(value: Any) -> str:
    """Return a value as text, cut off if it is long."""
    shown = value if isinstance(value, str) else json.dumps(value)
    return shown if len(shown) <= WIDTH else f"{shown[: WIDTH - 4]}..."
