"""Traces of the Storage Performance Council's form, as the UMass repository has them.

Source: "SPC Trace File Format Specification", revision 1.0.1, of 2002; traces.cs.umass.edu.

    0,20941264,8192,W,0.551706

Fields are the application's storage unit (ASU), a sector, a number of bytes, R or W, and the
seconds since the trace began. Optional fields may follow. The specification leaves the size of a
sector to the trace's description; UMass's traces have 512 bytes. There are no completion times, so
each request completes before the next begins.
"""

import re

from analysis.interop.foreign_file import TextFile, titled
from analysis.interop.sink import Sink
from analysis.interop.spans import nanoseconds
from tracer.op import SECTOR, Kind, Op

_LINE = re.compile(
    r"\s*(\d{1,9})\s*,\s*(\d{1,20})\s*,\s*(\d{1,10})\s*,\s*([RrWw])\s*,"
    r"\s*(\d{1,12}(?:\.\d{0,12})?)\s*(,.*)?"
)
_KINDS = {"R": Kind.READ, "W": Kind.WRITE}


def recognise(head: bytes) -> bool:
    """Return whether the first line is a request."""
    return titled(head, None, _LINE)


def read(source: TextFile, sink: Sink) -> None:
    """Pass the requests of a unit (``0``) to a sink. Raises TraceError."""
    for unit, sector, length, kind, seconds, more in source.rows(
        None, _LINE, "ASU,sector,bytes,R or W,seconds"
    ):
        if not sink.wants(unit):
            continue
        if more:
            sink.skip("line's optional fields")
        at = nanoseconds(seconds)
        sink.do(Op(0, _KINDS[kind.upper()], 0, int(sector) * SECTOR, int(length), at))
