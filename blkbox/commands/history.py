"""``trace history``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blkbox.commands.options import AsJson

if TYPE_CHECKING:
    from analysis.story.history import History

READERS = 6
"""The most reads that a line names."""


def history(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="The trace to read.")],
    sector: Annotated[int, typer.Option(metavar="S", help="The sector, of 512 bytes.")],
    at: Annotated[
        str | None,
        typer.Option(metavar="OP|MARK", help="Up to this op, or to this mark [the end]."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """List all versions that a sector should have held.

    For each version: the op that made it, from when until when it lasted, and the reads that
    returned it.

    Example: trace history install.trace --sector 2048

    Ops that failed are left out; trace show --sector S lists every op that touched the sector.
    """
    from analysis.story.history import history

    found = history(trace, sector, at)
    print(json.dumps({"schema": 1, **asdict(found)}, indent=2) if as_json else _listing(found))
    return 0


def _listing(found: "History") -> str:
    from tracer.op import ZERO_DIGEST
    from tracer.text import table

    lines: list[tuple[str, ...]] = [
        ("op", "kind", "since s", "until s", "digest", "replaced by", "read by")
    ]
    for row in found.versions:
        readers = [f"#{seq}" for seq in row["read_by"]]
        more = len(readers) - READERS
        zeroes = row["digest"] is None or row["digest"] == ZERO_DIGEST.hex()
        lines.append(
            (
                "-" if row["seq"] is None else f"#{row['seq']}",
                row["kind"] or "blank",
                _seconds(row["since"]),
                _seconds(row["until"]),
                "zeroes" if zeroes else row["digest"][:8],
                "-" if row["replaced_by"] is None else f"#{row['replaced_by']}",
                " ".join(readers[:READERS]) + (f" and {more:,} more" if more > 0 else "") or "-",
            )
        )
    last = f"<- held {'at the end' if found.at is None else f'after op #{found.at}'}"
    return table(
        [*lines[:-1], (*lines[-1][:-1], f"{lines[-1][-1]}  {last}")], right=frozenset({0, 2, 3, 5})
    )


def _seconds(ns: int | None) -> str:
    return "-" if ns is None else f"{ns / 1e9:.6f}"
