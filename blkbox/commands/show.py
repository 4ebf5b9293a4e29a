"""``trace show``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tracer.op import Op
    from tracer.trace.file import Trace


def show(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="The trace to look at.")],
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
            metavar="S", min=0, help="List every op that touched sector S; marks its last writer."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> int:
    """Show a trace's header and summary, or its ops.

    Example: trace show install.trace --sector 2048
    """
    from tracer.errors import UsageError
    from tracer.op import MUTATING, SECTOR
    from tracer.trace.file import Trace

    with Trace(trace) as source:
        if not ops and sector is None and (first or last is not None):
            raise UsageError("--from and --to go with --ops or --sector")
        if last is not None and last < first:
            raise UsageError(f"--to {last} comes before --from {first}")
        if sector is not None and sector * SECTOR >= source.header.size:
            raise UsageError(
                f"the disk has {source.header.size // SECTOR} sectors; there is none numbered {sector}"
            )
        if not ops and sector is None:
            facts = summary(source)
            print(json.dumps(facts, indent=2) if as_json else _page(facts))
            return 0

        def wanted(op: "Op") -> bool:
            inside = op.seq >= first and (last is None or op.seq <= last)
            return inside and (
                sector is None or (op.offset < (sector + 1) * SECTOR and op.end > sector * SECTOR)
            )

        found = sorted(filter(wanted, source.ops()), key=lambda op: op.seq)
        writers = [op.seq for op in found if op.kind in MUTATING and not op.reference_status]
        writer = writers[-1] if sector is not None and writers else None
        if as_json:
            rows = [as_dict(op) for op in found]
            print(json.dumps({"schema": 1, "ops": rows, "last_writer": writer}, indent=2))
        else:
            print(_listing(found, writer))
    return 0


def summary(trace: "Trace") -> dict[str, Any]:
    """What a trace is and holds."""
    from collections import Counter

    from tracer.op import KIND_BY_NUMBER, Fault, Op
    from tracer.trace.records import Mark, Mismatch

    counts: Counter[str] = Counter()
    amounts: Counter[str] = Counter()
    mismatches, marks, last = [], [], 0
    for record in trace.records():
        if isinstance(record, Op):
            kind = KIND_BY_NUMBER[record.kind].label
            counts[kind] += 1
            amounts[kind] += record.length
            last = max(last, record.completed)
        elif isinstance(record, Mismatch):
            mismatches.append({"seq": record.seq, "fault": Fault(record.fault).name.lower(),
                               "offset": record.offset, "length": record.length})  # fmt: skip
        elif isinstance(record, Mark):
            marks.append(asdict(record))
    end = trace.end
    return {
        "schema": 1,
        "trace": str(trace.path),
        "header": asdict(trace.header),
        "ops": dict(counts),
        "bytes": {kind: count for kind, count in amounts.items() if count},
        "duration_ns": last,
        "mismatches": mismatches,
        "marks": marks,
        "closed": end is not None,
        "verdict": end.verdict if end is not None else None,
        "torn_bytes": trace.torn_bytes,
    }


def as_dict(op: "Op") -> dict[str, Any]:
    """An op for JSON."""
    from tracer.op import KIND_BY_NUMBER, NO_PAYLOAD, flag_names

    return {
        **asdict(op),
        "kind": KIND_BY_NUMBER[op.kind].label,
        "flags": flag_names(op.flags),
        "payload": None if op.payload == NO_PAYLOAD else op.payload,
        "digest": op.digest.hex(),
    }


def _page(facts: dict[str, Any]) -> str:
    import datetime

    from tracer.text import printable, seconds, size, table

    header = facts["header"]
    tools = ", ".join(f"{name} {version}" for name, version in header["tools"].items())
    when = datetime.datetime.fromtimestamp(header["started"] / 1e9, datetime.UTC)
    told = f"{when:%Y-%m-%d %H:%M:%S} UTC" if header["started"] else "at an unknown time"
    lines = [
        f"trace:     {facts['trace']} (format {header['version']}, id {header['id']})",
        f"disk:      {size(header['size'])} ({header['size'] // 512:,} sectors), "
        f"start {header['start_image']}",
        f"driver:    {header['driver'].get('name', '?')}",
        f"recorded:  {told}, {seconds(facts['duration_ns'])}, on {header['host'].get('name', '?')}",
        f"with:      {tools}",
        f"payloads:  {header['payloads']}, digest {header['digest']}, trim rule {header['trim']}",
        "closed:    "
        + (f"yes, {facts['verdict']}" if facts["closed"] else "no: the recorder was killed"),
    ]
    if cut := header["cut"]:
        lines.append(
            f"cut:       #{cut.get('start_ops')} on are ops #{cut.get('first')} to #{cut.get('last')} "
            f"of {cut.get('trace')}"
        )
    if facts["torn_bytes"]:
        lines.append(
            f"torn:      the last record is cut off ({facts['torn_bytes']} bytes of it are there)"
        )
    lines += [f"mark:      {one['name']} before #{one['seq']}" for one in facts["marks"]]
    lines += [
        f"mismatch:  #{one['seq']} {one['fault']}, first in sector {one['offset'] // 512}"
        for one in facts["mismatches"][:10]
    ]
    if len(facts["mismatches"]) > 10:
        lines.append(f"           and {len(facts['mismatches']) - 10:,} more")
    rows = [
        (kind, f"{count:,}", size(facts["bytes"][kind]) if kind in facts["bytes"] else "")
        for kind, count in sorted(facts["ops"].items())
    ]
    lines = [printable(line) for line in lines]  # a trace is data: no control characters from it
    return "\n".join(
        [*lines, "", table([("op", "count", "bytes"), *rows], right=frozenset({1, 2}))]
    )


def _listing(ops: "list[Op]", writer: int | None) -> str:
    from tracer.op import KIND_BY_NUMBER, NO_TIME, SECTOR, flag_names
    from tracer.text import table

    rows: list[tuple[str, ...]] = [
        ("op", "kind", "sector", "sectors", "submitted s", "took us", "errno", "conn", "flags")
    ]
    for op in ops:
        took = "-" if op.completed == NO_TIME else f"{(op.completed - op.submitted) / 1e3:.0f}"
        first = op.offset // SECTOR
        place = (f"{first}", f"{-(-op.end // SECTOR) - first}") if op.length else ("-", "-")
        failed = (
            f"{op.reference_status}/{op.test_status}"
            if op.reference_status or op.test_status
            else "-"
        )
        notes = flag_names(op.flags) + (["<- last writer"] if op.seq == writer else [])
        rows.append(
            (f"#{op.seq}", KIND_BY_NUMBER[op.kind].label, *place, f"{op.submitted / 1e9:.6f}", took,
             failed, str(op.connection), " ".join(notes))
        )  # fmt: skip
    return table(rows, right=frozenset({0, 2, 3, 4, 5, 6, 7}))
