"""Events of the block layer as ftrace prints them: the files trace and trace_pipe, and the output
of ``trace-cmd report``.

Source: linux/include/trace/events/block.h, Documentation/trace/ftrace.rst.

    fio-412     [001] d..1.  5123.004512: block_rq_issue: 8,0 WFS 4096 () 2048 + 8 [fio]
    <idle>-0    [001] d.h1.  5123.004790: block_rq_complete: 8,0 WFS () 2048 + 8 [0]

Times are seconds since the machine started, with six decimals or nine.
"""

import re
from collections.abc import Iterator

from analysis.interop.blk_events import Event, Matcher, begins_with
from analysis.interop.foreign_file import TextFile
from analysis.interop.sink import Sink
from analysis.interop.spans import nanoseconds
from tracer.op import SECTOR, Kind

ACTIONS = {
    "block_bio_queue": "Q",
    "block_rq_issue": "D",
    "block_rq_requeue": "R",
    "block_rq_complete": "C",
    "block_bio_complete": "C",
}
"""The events that requests are made from, and blkparse's letters for them."""

_EVENT = re.compile(
    r"\s*\S.{0,32}-\d{1,10}\s+(?:\(\s*[\d-]+\)\s+)?\[\d{1,5}\]\s+(?:[^\s:]{1,8}\s+)?"
    r"(?P<seconds>\d{1,12}\.\d{3,9}):\s+(?P<event>[\w.]{1,64}):(?:\s+(?P<rest>.*))?"
)
_OTHER = re.compile(r"#.*|cpus=\d+|version = \d+|\s*=> .*|\s*")
"""Headings, and the lines of a stack trace."""

_LOST = re.compile(r"CPU:\d+ \[LOST (\d{1,18}) EVENTS\]")
_BLOCK = re.compile(
    r"(?P<device>\d{1,5},\d{1,8}) (?P<rwbs>[A-Z]{1,10})(?: (?P<bytes>\d{1,10}))?(?: \(.*?\))?"
    r" (?P<sector>\d{1,20}) \+ (?P<sectors>\d{1,10})(?: [\w-]{1,16},\w{1,8},\w{1,8})?"
    r" \[(?P<name>.*)\]"
)
_RWBS = re.compile(r"(?P<preflush>F?)(?P<kind>WZ|DE|Z[A-Z]+|[RWDFN])(?P<fua>F?)A?S?M?U?")
_KINDS = {"R": Kind.READ, "W": Kind.WRITE, "D": Kind.TRIM, "WZ": Kind.ZERO, "F": Kind.FLUSH}


def recognise(head: bytes) -> bool:
    """Return whether the first line that is not a heading is an event."""
    for line in head.decode(errors="replace").splitlines():
        if not _OTHER.fullmatch(line) and not _LOST.fullmatch(line):
            return _EVENT.fullmatch(line) is not None
    return head.startswith(b"# tracer:")


def read(source: TextFile, sink: Sink) -> None:
    """Pass the requests of a device (``8,0``) to a sink. Raises TraceError."""
    with TextFile(source.path) as again:
        begins = begins_with(_events(again, None), sink.device)
    matcher = Matcher(sink, begins)
    for event in _events(source, sink):
        matcher.see(event)
    matcher.finish()


def _events(source: TextFile, sink: Sink | None) -> Iterator[Event]:
    """Yield the events of requests; count what else there is."""
    for line in source:
        match = _EVENT.fullmatch(line)
        if match is not None and match["event"] in ACTIONS:
            yield _event(source, match)
        elif match is not None:
            if sink is not None:
                sink.skip("event of another kind")
        elif lost := _LOST.fullmatch(line):
            if sink is not None:
                sink.skip("event that the kernel lost", int(lost[1]))
        elif not _OTHER.fullmatch(line):
            raise source.error("not an event as ftrace prints it")


def _event(source: TextFile, match: re.Match[str]) -> Event:
    action = ACTIONS[match["event"]]
    block = _BLOCK.fullmatch(match["rest"] or "")
    rwbs = None if block is None else _RWBS.fullmatch(block["rwbs"])
    if block is None or rwbs is None:
        raise source.error(f"not a {match['event']} event")
    length = int(block["sectors"]) * SECTOR
    kind = _KINDS.get(rwbs["kind"])
    if rwbs["preflush"] and not length:
        kind = Kind.FLUSH
    error = 0
    if action == "C":
        error = source.integer(block["name"].removeprefix("-"), "an errno")
    return Event(
        nanoseconds(match["seconds"]), action, block["device"],
        0 if kind == Kind.FLUSH else int(block["sector"]), length, kind,
        bool(rwbs["fua"]), bool(rwbs["preflush"]) and length > 0, error,
    )  # fmt: skip
