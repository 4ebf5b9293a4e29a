"""Tencent's traces of cloud block storage, of 2018: a CSV file with many volumes.

Source: the README of the traces ("OSCA", ATC 2020), iotta.snia.org/traces/parallel/28064.

    1538323200,12910952,128,0,1283

Fields are the second since 1970, a sector, a number of sectors of 512 bytes, 0 for a read or 1 for
a write, and the volume. There are no completion times, so each request completes before the next
begins.
"""

import re

from analysis.interop.foreign_file import TextFile, titled
from analysis.interop.sink import Sink
from analysis.interop.spans import SECOND
from tracer.op import SECTOR, Kind, Op

_TITLE = "Timestamp,Offset,Size,IOType,"
_LINE = re.compile(r"(\d{1,10}),(\d{1,20}),(\d{1,10}),([01]),(\d{1,10})")
_KINDS = {"0": Kind.READ, "1": Kind.WRITE}


def recognise(head: bytes) -> bool:
    """Return whether the first line is a request, or the names of the columns."""
    return titled(head, _TITLE, _LINE)


def read(source: TextFile, sink: Sink) -> None:
    """Pass the requests of a volume (``1283``) to a sink. Raises TraceError."""
    form = "timestamp,sector,sectors,0 or 1,volume"
    for seconds, sector, sectors, kind, volume in source.rows(_TITLE, _LINE, form):
        if sink.wants(volume):
            at = int(seconds) * SECOND
            sink.clock(at, at)
            offset, length = int(sector) * SECTOR, int(sectors) * SECTOR
            sink.do(Op(0, _KINDS[kind], 0, offset, length, at))
