"""The output of blkparse(1) in its default format (blkparse_fmt.c, process_default).

Lines name the files that were read, then there is a line per event, then a summary.

    8,0    3       12     0.000012345   697  D  WS 223490 + 8 [kjournald]

Times are ns since the trace began.
"""

import re
from collections.abc import Iterator

from analysis.interop.blk_events import USED, Event, Matcher, begins_with
from analysis.interop.foreign_file import TextFile
from analysis.interop.sink import Sink
from tracer.op import SECTOR, Kind

_EVENT = re.compile(
    r"\s*(?P<device>\d{1,5},\d{1,8})\s+(?P<cpu>\d{1,9})\s+-?\d{1,20}"
    r"\s+(?P<s>\d{1,10})\.(?P<ns>\d{9})\s+\d{1,10}"
    r"\s+(?P<action>[A-Za-z]{1,2})\s+(?P<rwbs>[A-Z]{1,8})(?:\s(?P<rest>.*))?"
)
_HEADING = re.compile(r"Input file .* added")
_SUMMARY = re.compile(r"(CPU\d+|Total) \(")
_RWBS = re.compile(r"(?P<preflush>F?)(?P<kind>[RWDN])(?P<fua>F?)A?S?M?")
"""The kind of request, as fill_rwbs in blkparse_fmt.c prints it."""

_RANGE = re.compile(
    r"(?P<sector>\d{1,20})(?: \+ (?P<sectors>\d{1,10}))?(?: \( *\d+\))?(?: \[(?P<name>.*))?"
)
_NOTHING = re.compile(r"(?:\( *\d+\) )?\[.*")

_KINDS = {"R": Kind.READ, "W": Kind.WRITE, "D": Kind.TRIM}


def recognise(head: bytes) -> bool:
    """Return whether the first line that is not empty or a heading is an event."""
    lines = (
        line
        for line in head.decode(errors="replace").splitlines()
        if line.strip() and not _HEADING.fullmatch(line)
    )
    return _EVENT.fullmatch(next(lines, "")) is not None


def read(source: TextFile, sink: Sink) -> None:
    """Pass the requests of a device (``8,0``) to a sink. Raises TraceError."""
    with TextFile(source.path) as again:
        begins = begins_with(_events(again), sink.device)
    matcher = Matcher(sink, begins)
    for event in _events(source):
        matcher.see(event)
    for line in source:
        if _EVENT.fullmatch(line):
            sink.skip("event after the summary")
    matcher.finish()


def _events(source: TextFile) -> Iterator[Event]:
    """Yield the events before the summary."""
    for line in source:
        if not line.strip() or _HEADING.fullmatch(line):
            continue
        match = _EVENT.fullmatch(line)
        if match is None:
            if _SUMMARY.match(line):
                return
            raise source.error("not a line in blkparse's default format")
        if match["action"] in USED:
            yield _event(source, match)
        else:
            yield Event(0, match["action"], match["device"], 0, 0, None)


def _event(source: TextFile, match: re.Match[str]) -> Event:
    rwbs = _RWBS.fullmatch(match["rwbs"])
    if rwbs is None:
        raise source.error(f"{match['rwbs']!r} is not a known kind of request")
    event = Event(
        int(match["s"]) * 10**9 + int(match["ns"]), match["action"], match["device"], 0, 0,
        _KINDS.get(rwbs["kind"]), bool(rwbs["fua"]),
    )  # fmt: skip
    rest = match["rest"] or ""
    place = _RANGE.fullmatch(rest)
    if place is not None:
        event.sector = int(place["sector"])
        event.bytes = int(place["sectors"] or 0) * SECTOR
        if event.action == "C":
            event.error = _error(source, place["name"])
    elif "(" in rest and not _NOTHING.fullmatch(rest):
        event.kind = None  # a command for the device itself, with its bytes
        return event
    elif not _NOTHING.fullmatch(rest):
        raise source.error("expected a sector and a number of sectors")
    event.preflush = bool(rwbs["preflush"]) and event.bytes > 0
    if rwbs["preflush"] and not event.bytes:
        event.kind = Kind.FLUSH
        event.sector = 0
    return event


def _error(source: TextFile, text: str | None) -> int:
    """Return a completion's errno, which stands in brackets."""
    number = (text or "").rstrip("]").strip()
    return source.integer(number.removeprefix("-"), "an errno")
