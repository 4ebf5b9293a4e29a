"""The page about a recording: what it did, and what it found."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import polars as pl

from analysis.frames.columns import in_ns
from analysis.frames.frames import Frames
from analysis.report import queries, sections
from analysis.report.markup import Content, Markup
from analysis.report.page import Row, Section, facts, page, shell, table
from analysis.report.sections import AT_THE_END, MAX_ROWS, Focus
from analysis.story import words
from tracer import text
from tracer.op import SECTOR, sectors
from tracer.ranges import RangeSet
from tracer.verdict import BadRead, FaultName, Finding, Verdict, VerdictKind

FAULTS = {
    FaultName.DATA: "a read returned other bytes",
    FaultName.STATUS: "one side failed",
    FaultName.BLOCK_STATUS: "block status calls data zeroes",
    FaultName.FINAL: "the images differ after the run",
    FaultName.LOST: "the driver went away",
}
"""Each fault in words."""


def of_trace(recording: Frames, source: str) -> str:
    """Return the page about a recording: what it did, and where the two sides differed.

    Raises TraceError.
    """
    mismatches = in_ns(recording.mismatches)
    kinds = queries.by_kind(recording)
    summary, ranges = _summary(recording, mismatches), _damaged(mismatches)
    parts = [
        Section("what", "What happened", facts(summary)),
        Section("kinds", "Ops", _kinds(kinds)),
    ]
    if any(row["kind"] != "start" for row in kinds):
        parts.append(Section("pictures", "Pictures", sections.pictures(recording)))
    if len(recording.marks):
        parts.append(Section("marks", "Marks", _marks(in_ns(recording.marks))))
    if len(mismatches):
        first = mismatches.row(0, named=True)
        focus = Focus(first["seq"], first["seq"], {first["seq"]: "the first difference"}, ranges)
        parts.append(Section("mismatches", "Differences", _mismatches(mismatches)))
        if ranges:
            total = f"{ranges.total() // SECTOR:,} sectors differ"
            drawn = sections.damage_map(recording, _as_verdict(recording, first, ranges), total)
            parts.append(Section("damage", "Damage", drawn))
            sector, _ = next(ranges.sectors())
            moment = first["seq"] if first["offset_bytes"] // SECTOR == sector else AT_THE_END
            shown = sections.history(recording, focus, sector, moment)
            parts.append(Section("history", "History of the first damaged sector", shown))
        around = sections.ops_around(recording, focus)
        parts.append(Section("ops", "Ops around the first difference", around))
    again = f"{text.shell(['trace', 'replay', str(recording.path)])} --driver ..."
    parts += [
        Section("reproduce", "Replay it", shell([again])),
        Section("recorded", "Recorded on", sections.recorded_on(recording)),
    ]
    name = recording.path.name
    differences = f"{len(mismatches):,} differences" if len(mismatches) != 1 else "1 difference"
    return page(f"{name}: {differences}", summary[0][1][0], parts, source)


def _summary(recording: Frames, mismatches: pl.DataFrame) -> list[tuple[str, list[Content]]]:
    """Return the facts about the whole recording, how it ended first."""
    end, driver = recording.end, recording.header.driver.get("name", "?")
    if end is None:
        how = "The recording was not closed: its end is missing."
    else:
        how = f"The recording ended after {text.seconds(end.time)}, its verdict was: {end.verdict}."
    found: list[tuple[str, list[Content]]] = [
        ("recording", [how]),
        ("driver", [str(driver)]),
        ("ops", [f"{recording.count:,}"]),
    ]
    if recording.torn_bytes:
        found.append(
            ("torn", [f"the last record is cut off ({recording.torn_bytes} bytes are there)"])
        )
    if len(mismatches):
        faults = Counter(mismatches["fault"])
        found.append(
            (
                "differences",
                [f"{count:,} times {FAULTS[fault]}" for fault, count in sorted(faults.items())],
            )
        )
    return found


def _kinds(kinds: list[dict[str, Any]]) -> Markup:
    """Return the table of the kinds of op, from ``queries.by_kind``."""
    rows: list[Row] = []
    for row in kinds:
        took, driver, reference = row["latency"], row["test_took"], row["reference_took"]
        times = (took.median, took.high, row["most"], driver.median, reference.median)
        amount = text.size(row["bytes"]) if row["bytes"] else ""
        # pieces of the start image were copied: they have no latency
        cells = ["" if ns is None or row["kind"] == "start" else f"{ns / 1e3:,.1f}" for ns in times]
        rows.append(((row["kind"], f"{row['count']:,}", amount, f"{row['failed']:,}", *cells), ""))
    columns = [
        "count",
        "bytes",
        "failed",
        "median µs",
        "99 % µs",
        "longest µs",
        "driver's median µs",
    ]
    columns.append("reference's median µs")
    name = (
        "Ops by kind, and how long they took from submission to reply "
        "(medians and 99 %: to about 1 %)"
    )
    return table(name, {"op": "", **dict.fromkeys(columns, "number")}, rows)


def _marks(marks: pl.DataFrame) -> Markup:
    rows: list[Row] = [
        ((mark["name"], f"#{mark['seq']}", f"{mark['time'] / 1e9:.6f}"), "")
        for mark in marks.head(MAX_ROWS).rows(named=True)
    ]
    name = "Named moments" + (
        f" (the first {MAX_ROWS} of {len(marks):,})" if len(marks) > MAX_ROWS else ""
    )
    return table(name, {"mark": "note", "before op": "number", "at s": "number"}, rows)


def _mismatches(mismatches: pl.DataFrame) -> Markup:
    rows: list[Row] = []
    for row in mismatches.head(MAX_ROWS).rows(named=True):
        touched = sectors(row["offset_bytes"], row["offset_bytes"] + row["length_bytes"])
        place = words.sectors(touched.start, len(touched)) if row["length_bytes"] else ""
        status = ""
        if row["expected_status"] or row["actual_status"]:
            status = f"{row['actual_status']}, reference {row['expected_status']}"
        where = "after the run" if row["fault"] == FaultName.FINAL else f"#{row['seq']}"
        rows.append(((where, FAULTS[row["fault"]], place, status, f"{row['time'] / 1e9:.6f}"), ""))
    columns = {
        "op": "",
        "difference": "note",
        "from the first byte to the last": "place",
        "errno": "",
        "at s": "number",
    }
    name = "Where the driver and the reference differed"
    if len(mismatches) > MAX_ROWS:
        name += f" (the first {MAX_ROWS} of {len(mismatches):,})"
    return table(name, columns, rows)


def _damaged(mismatches: pl.DataFrame) -> RangeSet:
    """Return where bytes differed, in whole sectors."""
    faults = (FaultName.DATA, FaultName.BLOCK_STATUS, FaultName.FINAL)
    wrong = mismatches.filter(
        pl.col("fault").is_in([str(fault) for fault in faults]), pl.col("length_bytes") > 0
    )
    ranges = wrong.select("offset_bytes", "length_bytes").iter_rows()
    return RangeSet((offset, offset + length) for offset, length in ranges).aligned(SECTOR)


def _as_verdict(recording: Frames, first: Mapping[str, Any], damaged: RangeSet) -> Verdict:
    """Return what a recording found as a verdict, which the damage picture needs."""
    read = BadRead(seq=first["seq"], sector=first["offset_bytes"] // SECTOR)
    return Verdict(
        verdict=VerdictKind.DAMAGED,
        reason="found while recording",
        driver=str(recording.header.driver.get("name", "?")),
        trace=str(recording.path),
        size=recording.header.size,
        damage=[Finding(sector=sector, sectors=count) for sector, count in damaged.sectors()],
        culprit_damage=[],
        first_bad_read=read if first["fault"] == FaultName.DATA else None,
    )
