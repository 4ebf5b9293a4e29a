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
    a: Annotated[
        Path, typer.Argument(metavar="A", help="A trace, a verdict as JSON, or a matrix.")
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another of the same kind.")],
    timing: Annotated[
        bool,
        typer.Option("--timing", help="Also compare the times of ops, or the cost of verdicts."),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the latencies of two matrices (.png, .svg, .pdf)."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing picture.")] = False,
    as_json: AsJson = False,
) -> int:
    """Find the first op that differs in two recordings.

    For two verdicts of "trace replay --json", list the fields that differ. For the folders of two
    matrices, say what got better or worse.

    Example: trace diff monday.trace tuesday.trace

    Ops are compared in the order of submission: kind, flags, offset, length, digest and outcome.
    Exits with 0 if there is no difference and with 1 if there is one, as diff does; for two
    matrices with 1 if anything got worse.
    """
    from blkbox.matrices.folder import is_matrix
    from tracer.errors import UsageError

    matrices = [is_matrix(path) for path in (a, b)]
    if all(matrices):
        return _matrices(a, b, plot, force, as_json)
    if any(matrices):
        odd = b if matrices[0] else a
        raise UsageError(f"{odd} is not a matrix: give two matrices, two traces or two verdicts")
    if plot is not None:
        raise UsageError("--plot draws the latencies of two matrices")
    from analysis.story.diff import as_json as to_json
    from analysis.story.diff import diff

    result = diff(a, b, timing=timing)
    print(json.dumps(to_json(result), indent=2) if as_json else _page(result))
    return result.exit_code


def _matrices(a: Path, b: Path, plot: Path | None, force: bool, as_json: bool) -> int:
    """Compare two matrices."""
    from blkbox.matrices.compare import compare
    from blkbox.matrices.differences import draw, page, to_json
    from tracer.files import PICTURES, check_new

    if plot is not None:
        check_new(plot, force, PICTURES)
    result, pairs = compare(a, b)
    if plot is not None:
        draw(result, pairs, plot)
    print(json.dumps(to_json(result), indent=2) if as_json else page(result))
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
