"""The SYSTOR '17 traces of virtual desktops: a CSV file per hour and LUN.

Source: the README of the traces, iotta.snia.org/traces/block-io/4928.

    Timestamp,Response,IOType,LUN,Offset,Size
    1456135200.013118000,0.000806000,R,0,899056122368,131072

Timestamps are seconds since 1970, response times seconds, both right to a microsecond. Offsets and
sizes are bytes. The type is blank if the source saw no response: such a line may be a read or a
write.
"""

import re
from collections.abc import Iterator

from analysis.interop import spans
from analysis.interop.foreign_file import TextFile, titled
from analysis.interop.sink import Sink
from tracer.op import Kind, Op

_TITLE = "Timestamp,Response,"
_LINE = re.compile(
    r"(\d{1,10}\.\d{1,9}),(\d{1,9}\.\d{1,9})?,([RW]?),(\d{1,9}),(\d{1,20}),(\d{1,10})"
)
_KINDS = {"R": Kind.READ, "W": Kind.WRITE}


def recognise(head: bytes) -> bool:
    """Return whether the first line is a request, or the names of the columns."""
    return titled(head, _TITLE, _LINE)


def read(source: TextFile, sink: Sink) -> None:
    """Pass the requests of a LUN (``0``) to a sink. Raises TraceError."""
    spans.do(_requests(source, sink), sink)


def _requests(source: TextFile, sink: Sink) -> Iterator[tuple[Op, int]]:
    """Yield the requests, and when each completed."""
    form = "timestamp,response,R or W,LUN,offset,size"
    for seconds, response, kind, lun, offset, length in source.rows(_TITLE, _LINE, form):
        if not sink.wants(lun):
            continue
        if not kind:
            sink.skip("request without a response, which may be a read or a write")
            continue
        at = spans.nanoseconds(seconds)
        sink.clock(at, at)
        op = Op(0, _KINDS[kind], 0, int(offset), int(length), at)
        yield op, at + (spans.nanoseconds(response) if response else 0)
