"""``trace show``."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blkbox.commands.options import AsJson

if TYPE_CHECKING:
    from analysis.story.contents import Selection

LISTED = 10
"""The most mismatches, settles and restarts that the summary lists, of each."""


def show(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="The trace to read.")],
    ops: Annotated[bool, typer.Option("--ops", help="List the ops.")] = False,
    first: Annotated[
        int, typer.Option("--from", metavar="N", min=0, help="List ops from number N on.")
    ] = 0,
    last: Annotated[
        int | None, typer.Option("--to", metavar="M", min=0, help="List ops up to number M.")
    ] = None,
    sector: Annotated[
        int | None,
        typer.Option(
            metavar="S", min=0, help="List the ops that touched sector S, and mark its last writer."
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Show a trace's header and summary, or its ops.

    Example: trace show install.trace --sector 2048
    """
    from analysis.story.contents import op_as_dict, select, summary
    from tracer.errors import UsageError
    from tracer.trace.file import Trace

    with Trace(trace) as source:
        if not ops and sector is None:
            if first or last is not None:
                raise UsageError("--from and --to go with --ops or --sector")
            facts = summary(source)
            print(json.dumps(facts, indent=2) if as_json else _page(facts))
            return 0
        found = select(source, first=first, last=last, sector=sector)
    if as_json:
        rows = [op_as_dict(op) for op in found.ops]
        print(json.dumps({"schema": 1, "ops": rows, "last_writer": found.last_writer}, indent=2))
    else:
        print(_listing(found))
    return 0


def _page(facts: dict[str, Any]) -> str:
    import datetime

    from tracer.op import SECTOR
    from tracer.text import printable, seconds, size, table

    header = facts["header"]
    tools = ", ".join(f"{name} {version}" for name, version in header["tools"].items())
    when = datetime.datetime.fromtimestamp(header["started"] / 1e9, datetime.UTC)
    started = f"{when:%Y-%m-%d %H:%M:%S} UTC" if header["started"] else "at an unknown time"
    length = seconds(facts["duration_ns"])
    lines = [
        f"trace:     {facts['trace']} (format {header['version']}, id {header['id']})",
        f"disk:      {size(header['size'])} ({-(-header['size'] // SECTOR):,} sectors), "
        f"start {header['start_image']}",
        f"driver:    {header['driver'].get('name', '?')}",
        f"recorded:  {started}, {length}, on {header['host'].get('name', '?')}",
        f"with:      {tools}",
        f"payloads:  {header['payloads']}, digest {header['digest']}, trim rule {header['trim']}",
        f"conflicts: {header['conflicts']}",
        "closed:    "
        + (f"yes, {facts['verdict']}" if facts["closed"] else "no: the recorder was killed"),
    ]
    if cut := header["cut"]:
        lines.append(
            f"cut:       #{cut.get('start_ops')} on are ops #{cut.get('first')} to "
            f"#{cut.get('last')} of {cut.get('trace')}"
        )
    if facts["torn_bytes"]:
        lines.append(
            f"torn:      the last record is cut off ({facts['torn_bytes']} bytes of it are there)"
        )
    lines += [f"mark:      {mark['name']} before #{mark['seq']}" for mark in facts["marks"]]
    lines += _some(
        f"restart:   before #{restart['seq']}, {restart['why']}" for restart in facts["restarts"]
    )
    lines += _some(map(_settled, facts["settles"]))
    lines += _some(
        f"mismatch:  #{found['seq']} {found['fault']}, first in sector {found['offset'] // SECTOR}"
        for found in facts["mismatches"]
    )
    rows = [
        (kind, f"{count:,}", size(facts["bytes"][kind]) if kind in facts["bytes"] else "")
        for kind, count in sorted(facts["ops"].items())
    ]
    lines = [printable(line) for line in lines]  # no control characters from a trace
    return "\n".join(
        [*lines, "", table([("op", "count", "bytes"), *rows], right=frozenset({1, 2}))]
    )


def _some(lines: Iterable[str]) -> list[str]:
    """Return the first lines, and how many more there are."""
    every = list(lines)
    left = len(every) - LISTED
    return every[:LISTED] + ([f"           and {left:,} more"] if left > 0 else [])


def _settled(settle: dict[str, Any]) -> str:
    last = settle["offset"] + settle["length"] - 1
    whose = "what was there before" if settle["winner"] is None else f"#{settle['winner']}'s"
    return f"settle:    #{settle['seq']} decided: bytes {settle['offset']} to {last} are {whose}"


def _listing(found: "Selection") -> str:
    from tracer.op import KIND_BY_NUMBER, NO_TIME, flag_names
    from tracer.text import table

    rows: list[tuple[str, ...]] = [
        ("op", "kind", "sector", "sectors", "submitted s", "took us", "errno", "conn", "flags")
    ]
    for op in found.ops:
        took = "-" if op.completed == NO_TIME else f"{(op.completed - op.submitted) / 1e3:.0f}"
        if op.completed == op.submitted:
            took = "?"  # not measured
        place = (str(op.sectors.start), str(len(op.sectors))) if op.length else ("-", "-")
        failed = (
            f"{op.reference_status}/{op.test_status}"
            if op.reference_status or op.test_status
            else "-"
        )
        notes = flag_names(op.flags)
        if op.seq == found.last_writer:
            notes.append("<- last writer")
        rows.append(
            (f"#{op.seq}", KIND_BY_NUMBER[op.kind].label, *place, f"{op.submitted / 1e9:.6f}", took,
             failed, str(op.connection), " ".join(notes))
        )  # fmt: skip
    return table(rows, right=frozenset({0, 2, 3, 4, 5, 6, 7}))
