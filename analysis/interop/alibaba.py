"""Alibaba's block traces of 2020: a CSV file with all disks.

Source: https://github.com/alibaba/block-traces

    device_id,opcode,offset,length,timestamp
    419,W,8792731648,16384,1577808144360767

Offsets and lengths are bytes, timestamps microseconds since 1970. There are no completion times, so
each request completes before the next begins.
"""

import re

from analysis.interop.foreign_file import TextFile, titled
from analysis.interop.sink import Sink
from tracer.op import Kind, Op

MICROSECOND = 1000
"""Nanoseconds."""

_TITLE = "device_id,opcode,"
_LINE = re.compile(r"(\d{1,10}),([RW]),(\d{1,20}),(\d{1,10}),(\d{1,18})")

_KINDS = {"R": Kind.READ, "W": Kind.WRITE}


def recognise(head: bytes) -> bool:
    """Return whether the first line is a request, or the names of the columns."""
    return titled(head, _TITLE, _LINE)


def read(source: TextFile, sink: Sink) -> None:
    """Pass the requests of a disk (``419``) to a sink. Raises TraceError."""
    for fields in source.rows(_TITLE, _LINE, "device,R or W,offset,length,timestamp"):
        device, kind, offset, length, stamp = fields
        if sink.wants(device):
            at = int(stamp) * MICROSECOND
            sink.clock(at, at)
            sink.do(Op(0, _KINDS[kind], 0, int(offset), int(length), at))
