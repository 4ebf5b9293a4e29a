"""What ``trace diff`` shows of two matrices: text, JSON, a picture."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from blkbox.matrices.compare import Change, Comparison, Pair, Ratio
from tracer.text import many, printable, table

MAX_REASON = 90
"""Characters of a reason."""


def to_json(result: Comparison) -> dict[str, Any]:
    """Return the result as ``trace diff --json`` prints it."""
    latency = [{**asdict(ratio), "how": ratio.how} for ratio in result.latency]
    return {**asdict(result), "latency": latency, "worse": result.worse}


def page(result: Comparison) -> str:
    """Return the result as text: what got worse first."""
    counts = Counter(change.how for change in result.changes)
    words = [f"{counts[how]} {how}" for how in ("worse", "better", "undecided") if counts[how]]
    verdicts = ", ".join(words) or "no difference"
    lines = [f"{many(result.cells, 'cell')}: {verdicts}"]
    for how in ("worse", "undecided", "better"):
        for change in result.changes:
            if change.how == how:
                lines += _change(change)
    if result.latency:
        rows: list[tuple[str, ...]] = [
            ("build", "kind", "before", "after", "ratio", "95 % interval", "")
        ]
        rows += [_ratio(ratio) for ratio in result.latency]
        lines += ["", table(rows, right=frozenset({2, 3, 4}))]
    for name, only in ((result.a, result.only_a), (result.b, result.only_b)):
        if only:
            lines.append(f"only in {printable(name)}: {printable(', '.join(only))}")
    return "\n".join([*lines, "", "it got worse" if result.worse else "nothing got worse"])


def draw(result: Comparison, pairs: list[Pair], picture: Path) -> None:
    """Draw the latencies. Raises UsageError, StorageError."""
    from analysis import plots

    panels = [
        (
            pair.b if pair.a == pair.b else f"{pair.a} -> {pair.b}",
            {
                kind: (np.concatenate(before), np.concatenate(after))
                for kind, (before, after) in pair.times.items()
            },
        )
        for pair in pairs
    ]
    plots.save(plots.ecdf(panels, result.a, result.b), picture)


def _change(change: Change) -> list[str]:
    damage = ""
    if change.damaged_before != change.damaged_after:
        damage = f"; {change.damaged_before:,} -> {change.damaged_after:,} damaged sectors"
    return [
        f"{change.how:9} {printable(change.trace)} on {printable(change.build)}: "
        f"{change.before or 'not run'} -> {change.after or 'not run'}{damage}",
        f"          {printable(change.reason)[:MAX_REASON]}",
    ]


def _ratio(ratio: Ratio) -> tuple[str, ...]:
    return (
        printable(ratio.build), printable(ratio.kind), _time(ratio.before_ns),
        _time(ratio.after_ns), f"{ratio.ratio:.2f}", f"{ratio.low:.2f} to {ratio.high:.2f}",
        "" if ratio.how == "alike" else ratio.how,
    )  # fmt: skip


def _time(ns: float) -> str:
    return f"{ns / 1000:,.0f} us"
