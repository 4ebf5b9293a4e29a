"""Traces of Florida International University ("I/O Deduplication", FAST 2010).

Source: the README of the traces, iotta.snia.org/traces/block-io/411.

    89966680272 4892 syslogd 904265560 8 W 6 0 531e779d2a4fe0e0...

Fields are the time in ns, a process's number and name, a sector, a number of sectors of 512 bytes,
W or R, the device's major and minor number, and MD5 digests of the data: one for every 4096 bytes,
or for every 512 in the traces of home directories. There are no completion times, so each request
completes before the next begins.
"""

import re

from analysis.interop.foreign_file import TextFile, titled
from analysis.interop.sink import Sink
from tracer.op import SECTOR, Kind, Op

_LINE = re.compile(
    r"\s*(\d{1,19}) -?\d{1,10} (?:\S.{0,63}) (\d{1,20}) (\d{1,10}) ([RW]) (\d{1,9}) (\d{1,9})"
    r"(?: .*)?"
)
_KINDS = {"R": Kind.READ, "W": Kind.WRITE}


def recognise(head: bytes) -> bool:
    """Return whether the first line is a request."""
    return titled(head, None, _LINE)


def read(source: TextFile, sink: Sink) -> None:
    """Pass the requests of a device (``6,0``) to a sink. Raises TraceError."""
    form = "ns process name sector sectors R or W major minor digests"
    for at, sector, sectors, kind, major, minor in source.rows(None, _LINE, form):
        if sink.wants(f"{major},{minor}"):
            offset, length = int(sector) * SECTOR, int(sectors) * SECTOR
            sink.do(Op(0, _KINDS[kind], 0, offset, length, int(at)))
