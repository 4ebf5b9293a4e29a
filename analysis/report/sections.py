"""The sections that the pages about verdicts and about recordings share."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import polars as pl

from analysis.frames.columns import FLAG_SEPARATOR
from analysis.frames.frames import Frames
from analysis.report import queries
from analysis.report.markup import Content, Markup, element, join
from analysis.report.page import Row, code, facts, lines, paragraph, picture, table
from analysis.story import hexdump
from tracer import text
from tracer.disk.private import PrivateFolder, Use
from tracer.op import SECTOR, sectors
from tracer.ranges import RangeSet
from tracer.verdict import DamageKind, Environment, Verdict

MAX_HISTORIES = 3
"""The most sectors whose history is shown: that of other damage is mostly the same."""

MAX_LOG = 200
"""The most lines shown of a driver's log: the last."""

MAX_ENTRIES = 50
"""The most entries shown of a map in a header."""

MAX_ROWS = 100
"""The most rows of a table of damaged ranges, differences or marks. The verdict's JSON and the
trace have all."""

AT_THE_END = (1 << 63) - 1
"""The op number that stands for the end of a trace."""

OPS = {
    "op": "",
    "kind": "",
    "sectors": "place",
    "size": "number",
    "flags": "",
    "submitted s": "number",
    "took µs": "number",
    "errno": "number",
    "note": "note",
}

_NEVER = AT_THE_END

_NOW_THERE: Mapping[DamageKind | None, str] = {
    DamageKind.TORN: "arrived in part",
    DamageKind.BIT_FLIP: "its bytes are there, some bits wrong",
    DamageKind.SHIFTED: "its bytes are there, moved",
}
"""The note on the op that the wrong bytes came from, by kind of damage. For other kinds it is "its
bytes are there instead"."""


@dataclass(frozen=True, slots=True)
class Focus:
    """What matters in a trace."""

    seq: int
    """The op to look at."""
    culprit: int | None = None
    """The culprit's seq."""
    notes: Mapping[int, str] = field(default_factory=dict)
    """Notes on some ops, by seq."""
    damage: RangeSet = field(default_factory=RangeSet)


def ops_around(recording: Frames, focus: Focus) -> Markup:
    """Return the table of the ops before and after the op in focus."""
    found = queries.around(recording, focus.seq)
    together = _together(found, focus)

    def note(op: Mapping[str, Any]) -> list[str]:
        said = [focus.notes[op["seq"]]] if op["seq"] in focus.notes else []
        if op["seq"] in together:
            said.append("in flight with it")
        touched = op["offset_bytes"], op["offset_bytes"] + op["length_bytes"]
        if op["kind"] != "flush" and focus.damage.overlaps(*touched):
            said.append("touches damaged sectors")
        return said

    name = f"Ops around #{focus.seq}, by number; {recording.count:,} in the trace"
    return table(name, OPS, _op_rows(found, focus, note))


def _together(ops: pl.DataFrame, focus: Focus) -> Collection[int]:
    """Return the ops in flight with the culprit. An op that never completed stays in flight."""
    seq, end = pl.col("seq"), pl.col("completed").fill_null(pl.lit(_NEVER))
    mine = ops.filter(seq == pl.lit(focus.culprit, pl.Int64()))
    for begun, ended in mine.select("submitted", end).rows():
        with_it = (end >= begun) & (pl.col("submitted") <= ended) & (seq != pl.lit(focus.culprit))
        return set(ops.filter(with_it)["seq"])
    return ()


def history(
    recording: Frames,
    focus: Focus,
    sector: int,
    moment: int,
    kind: DamageKind | None = None,
    origin: int | None = None,
) -> Markup:
    """Return the table of what happened to a damaged sector before and after op ``moment``.

    ``kind`` is the kind of damage, and ``origin`` the op that the wrong bytes came from.
    """
    also = {*focus.notes, *([origin] if origin is not None else [])}
    found, writer, more = queries.history(recording, sector, moment, also)

    def note(op: Mapping[str, Any]) -> list[str]:
        here = (
            op["offset_bytes"] < (sector + 1) * SECTOR
            and op["offset_bytes"] + op["length_bytes"] > sector * SECTOR
        )
        said = [focus.notes[op["seq"]]] if op["seq"] in focus.notes else []
        if op["seq"] == writer:
            said.append("wrote what should be there")
        if op["seq"] == origin:
            said.append(_NOW_THERE.get(kind, "its bytes are there instead"))
        if not here:
            said.append("touches other sectors")
        return said

    name = f"Sector {sector} (byte {sector * SECTOR})"
    if writer is None:
        name += ": nothing wrote it before, it should hold what it did at the start"
    if more:
        name += f"; {more:,} more ops touched it"
    return table(name, OPS, _op_rows(found, focus, note))


def _op_rows(
    ops: pl.DataFrame, focus: Focus, note: Callable[[Mapping[str, Any]], list[str]]
) -> Iterable[Row]:
    for op in ops.rows(named=True):
        place, amount = "", ""
        if op["length_bytes"]:
            touched = sectors(op["offset_bytes"], op["offset_bytes"] + op["length_bytes"])
            first, last = touched[0], touched[-1]
            place = f"{first}" if first == last else f"{first} to {last}"
            amount = text.size(op["length_bytes"])
        took = "never done" if op["completed"] is None else ""
        if op["latency"] is not None:
            took = f"{op['latency'] / 1e3:,.0f}"
        cells = (
            f"#{op['seq']}", op["kind"], place, amount, op["flags"].replace(FLAG_SEPARATOR, " "),
            f"{op['submitted'] / 1e9:.6f}", took, op["status"] or "", "; ".join(note(op)),
        )  # fmt: skip
        yield cells, "chief" if op["seq"] == focus.culprit else ""


def damage_map(recording: Frames, verdict: Verdict, summary: str) -> Markup:
    """Return the picture of the damage. Raises what ``analysis.plots.damage`` raises."""
    from analysis import plots

    with PrivateFolder(Use.REPORT) as folder:
        path = folder.path / "damage.svg"
        plots.save(plots.damage(recording, verdict), path)
        svg = path.read_bytes()
    alt = f"A map of the disk: {summary}. What it shows is in the tables too."
    return picture(
        svg, alt, "The whole disk above; below, the sectors in question and the ops on them"
    )


PICTURES = {
    "timeline": "Which part of the disk was used when",
    "latency": "How long ops took, on the test side and on the reference, and when",
    "throughput": "Data and ops per second, and ops in flight",
}
"""The pictures of a recording, with what they show."""


def pictures(recording: Frames) -> Markup:
    """Return pictures of a recording. Raises TraceError."""
    from analysis import plots

    drawn = []
    for kind, shows in PICTURES.items():
        figure = getattr(plots, kind)(recording)
        # an SVG has an outline for each letter and each step of a curve: up to four times as much
        drawn.append(picture(plots.small_png(figure), f"{kind}: {shows.lower()}", shows))
    return join(drawn)


def hex_dump(offset: int, expected: bytes, actual: bytes) -> Markup:
    """Return a hex dump with the expected bytes (-) above the actual bytes (+) where they differ.

    Bytes that differ are marked. Both inputs have the same length. Rows that repeat the row above
    are left out (``*``, as in hexdump).
    """
    shown: list[Content] = []
    for row in hexdump.rows(offset, expected, actual):
        if row.repeats:
            if shown[-1] != "*":
                shown.append("*")
            continue
        differs = [good != bad for good, bad in zip(row.expected, row.actual, strict=True)]
        place = f"{row.offset:08x}  "
        if row.equal:
            shown.append(element("span", f"  {place}", _bytes(row.actual, differs), class_="same"))
        else:
            shown.append(join((f"- {place}", _bytes(row.expected, differs, "was"))))
            shown.append(join((f"+ {place}", _bytes(row.actual, differs))))
    return lines("Bytes of the sector: what it should hold (-) and what it does (+)", shown)


def _bytes(row: bytes, differs: list[bool], look: str | None = None) -> Markup:
    """Return bytes in hexadecimal and as text. Bytes that differ are marked."""
    pairs = [f"{byte:02x}" for byte in row]
    letters = hexdump.letters(row)
    width = hexdump.WIDTH * 3 - 1
    gap = " " * (width - (len(row) * 3 - 1) + 2)
    return join((_marked(pairs, differs, " ", look), gap, _marked(letters, differs, "", look)))


def _marked(items: list[str], differs: list[bool], between: str, look: str | None) -> Markup:
    pieces: list[Content] = []
    at = 0
    while at < len(items):
        stop = at + 1
        while stop < len(items) and differs[stop] == differs[at]:
            stop += 1
        piece = between.join(items[at:stop])
        pieces.append(element("mark", piece, class_=look) if differs[at] else piece)
        at = stop
    return join(pieces, between)


def log(words: str) -> Markup:
    """Return the last lines of a driver's log."""
    found = words.strip().splitlines()
    shown = lines("The driver's log", found[-MAX_LOG:])
    if len(found) <= MAX_LOG:
        return shown
    return join((paragraph(f"The last {MAX_LOG} of {len(found):,} lines."), shown))


def recorded_on(recording: Frames) -> Markup:
    """Return what the trace's header says about the trace and the machine that recorded it."""
    header = recording.header
    when = datetime.fromtimestamp(header.started / 1e9, UTC)
    about: list[tuple[str, list[Content]]] = [
        ("trace", [f"{recording.path.name}, format {header.version}, id {header.id}"]),
        ("disk", [f"{text.size(header.size)} ({recording.sectors:,} sectors)"]),
        ("at the start", [header.start_image]),
        ("recorded", [f"{when:%Y-%m-%d %H:%M:%S} UTC"]),
        ("payloads", [f"{header.payloads}, digest {header.digest}, trim rule {header.trim}"]),
    ]  # fmt: skip
    return facts([*about, *_environment(header.host, header.tools, header.driver)])


def ran_on(environment: Environment) -> Markup:
    """Return what a replay ran on, from its verdict."""
    return facts(_environment(environment.host, environment.tools, environment.driver))


def _environment(
    host: Mapping[str, Any], tools: Mapping[str, Any], driver: Mapping[str, Any]
) -> list[tuple[str, list[Content]]]:
    parts = {"host": host, "tools": tools, "driver": driver}
    return [
        (name, [_entry(*entry) for entry in islice(entries.items(), MAX_ENTRIES)])
        for name, entries in parts.items()
        if entries
    ]


def _entry(key: object, value: object) -> Markup:
    if isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
        return join((key, ": ", code(text.shell(value)) if value else "none"))
    return join((key, ": ", value))
