"""``trace history``."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

READERS = 6
"""Reads that a line names at most."""


def history(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="The trace to read.")],
    sector: Annotated[int, typer.Option(metavar="S", help="The sector, of 512 bytes.")],
    at: Annotated[
        str | None,
        typer.Option(metavar="OP|MARK", help="Up to this op, or to this mark [the end]."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> int:
    """List all versions that a sector should have held.

    By which op, from when until when, and which reads saw them.

    Example: trace history install.trace --sector 2048

    Ops that failed are left out; trace show --sector S lists every op that touched the sector.
    """
    import analysis
    from tracer.errors import UsageError
    from tracer.trace.file import Trace
    from tracer.trace.marks import resolve_upto

    with analysis.open(trace) as recording, Trace(trace) as opened:
        if not 0 <= sector < recording.sectors:
            raise UsageError(
                f"there is no sector {sector}: the disk's last is {recording.sectors - 1}"
            )
        before = recording.last + 1 if at is None else resolve_upto(opened, at)
        found = recording.versions(range(sector, sector + 1))
    rows = [row for row in found.rows(named=True) if row["seq"] is None or row["seq"] < before]
    for row in rows:
        row["read_by"] = [seq for seq in row["read_by"] if seq < before]
        row["digest"] = row["digest"] and row["digest"].hex()
        row.pop("sectors")
        row.pop("sector")
    if as_json:
        after = None if at is None else before - 1
        told = {"schema": 1, "trace": str(trace), "sector": sector, "at": after, "versions": rows}
        print(json.dumps(told, indent=2))
    else:
        print(_listing(rows, "at the end" if at is None else f"after op #{before - 1}"))
    return 0


def _listing(rows: list[dict[str, Any]], when: str) -> str:
    from tracer.op import ZERO_DIGEST
    from tracer.text import table

    lines: list[tuple[str, ...]] = [
        ("op", "kind", "since s", "until s", "digest", "replaced by", "read by")
    ]
    for row in rows:
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
        )  # fmt: skip
    last = f"<- held {when}"
    return table(
        [*lines[:-1], (*lines[-1][:-1], f"{lines[-1][-1]}  {last}")], right=frozenset({0, 2, 3, 5})
    )


def _seconds(ns: int | None) -> str:
    return "-" if ns is None else f"{ns / 1e9:.6f}"
