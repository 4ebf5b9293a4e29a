"""Traces of the MSR Cambridge collection: a CSV file per disk.

Source: its README.txt, section 3, at iotta.snia.org.

    Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime
    128166372003061629,usr,0,Read,7014609920,24576,41286

Timestamps are Windows file times: units of 100 ns since 1601. Response times have the same unit.
Offsets and sizes are bytes.
"""

import re
from collections.abc import Iterator

from analysis.interop import spans
from analysis.interop.foreign_file import TextFile, titled
from analysis.interop.sink import Sink
from tracer.op import Kind, Op

TICK = 100
"""Nanoseconds."""

EPOCH = 116_444_736_000_000_000
"""1970 as a file time."""

_TITLE = "Timestamp,Hostname,"
_LINE = re.compile(r"(\d{1,18}),([\w.-]+),(\d{1,9}),(Read|Write),(\d{1,20}),(\d{1,20}),(\d{1,18})")

_KINDS = {"Read": Kind.READ, "Write": Kind.WRITE}


def recognise(head: bytes) -> bool:
    """Return whether the first line is a request, or the names of the columns."""
    return titled(head, _TITLE, _LINE)


def read(source: TextFile, sink: Sink) -> None:
    """Pass the requests of a disk to a sink. Raises TraceError.

    The disk's name is ``usr_0``, as in the name of its file.
    """
    spans.do(_requests(source, sink), sink)


def _requests(source: TextFile, sink: Sink) -> Iterator[tuple[Op, int]]:
    """Yield the requests, and when each completed."""
    for fields in source.rows(_TITLE, _LINE, "timestamp,host,disk,type,offset,size,response time"):
        ticks, host, disk, kind, offset, length, took = fields
        if sink.wants(f"{host}_{disk}"):
            at = int(ticks) * TICK
            sink.clock(at - EPOCH * TICK, at)
            op = Op(0, _KINDS[kind], 0, int(offset), int(length), at)
            yield op, at + int(took) * TICK
