"""``trace diff``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tracer.rework.diff import Diff


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="A trace, or a verdict as JSON.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another of the same kind.")],
    timing: Annotated[
        bool, typer.Option("--timing", help="Compare times, and what a verdict took, as well.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> int:
    """Find the first op at which two recordings part.

    Or what two verdicts of "trace replay --json" say differently.

    Example: trace diff monday.trace tuesday.trace

    Ops are compared one by one in the order of submission: kind, flags, offset, length, digest and
    outcome. Exits with 0 if all are alike, with 1 if not, as diff does.
    """
    from analysis.story.diff import diff_verdicts
    from tracer.errors import UsageError
    from tracer.rework.diff import diff_traces

    verdicts = [_is_json(path) for path in (a, b)]
    if verdicts[0] != verdicts[1]:
        verdict, trace = (a, b) if verdicts[0] else (b, a)
        raise UsageError(f"{verdict} is JSON and {trace} is not: give two traces, or two verdicts")
    result = (diff_verdicts if verdicts[0] else diff_traces)(a, b, timing=timing)
    print(json.dumps(_as_json(result), indent=2) if as_json else _page(result))
    return result.exit_code


def _is_json(path: Path) -> bool:
    from tracer.errors import TraceError
    from tracer.verdict_file import is_json

    try:
        return is_json(path)
    except OSError as error:
        raise TraceError(f"cannot open {path}: {error.strerror}") from error


def _as_json(result: "Diff") -> dict[str, Any]:
    from blkbox.commands.show import as_dict

    ops = {"op_a": result.op_a, "op_b": result.op_b}
    shown = {name: None if op is None else as_dict(op) for name, op in ops.items()}
    return {**asdict(result), **shown, "same": result.same}


def _page(result: "Diff") -> str:
    from tracer.text import printable

    lines = []
    if result.alike is not None:
        lines.append(f"the first {result.alike:,} ops are alike")
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
    """A value in so many characters at most."""
    shown = value if isinstance(value, str) else json.dumps(value)
    return shown if len(shown) <= 64 else f"{shown[:60]}..."
