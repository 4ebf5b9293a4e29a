"""The output of bcc's biosnoop: a line per request that has completed.

Source: github.com/iovisor/bcc, tools/biosnoop.py.

    TIME(s)     COMM           PID    DISK    T SECTOR     BYTES  LAT(ms)
    0.000004    supervise      1950   xvda1   W 13092560   4096      0.74

The time is that of the completion. Latencies count from the issue to the driver; they have two
decimals, so what was in flight together is known to about 10 us. ``-Q`` adds the time in the queue
before the latency (QUE(ms)), ``-P`` the access pattern before the sector. T is W for writes, R for
everything else. Lines without bytes are flushes or commands for the device itself.
"""

import re
from collections.abc import Iterator

from analysis.interop import spans
from analysis.interop.foreign_file import TextFile, titled
from analysis.interop.sink import Sink
from tracer.op import SECTOR, Kind, Op

MILLISECOND = 10**6
"""Nanoseconds."""

NOT_DATA = "line without a disk or bytes (a flush, or a command)"

_TITLE = "TIME(s)"
_LINE = re.compile(
    r"\s*(?P<seconds>\d{1,10}\.\d{1,9})\s+\S.{0,15}?\s+-?\d{1,10}\s+(?:(?P<disk>\S{1,32})\s+)?"
    r"(?P<kind>[RW])\s+(?:[SR?]\s+)?(?P<sector>-?\d{1,20})\s+(?P<bytes>\d{1,10})\s+"
    r"(?:\d{1,9}\.\d{1,9}\s+)?(?P<whole>\d{1,9})\.(?P<fraction>\d{1,6})\s*"
)
_KINDS = {"R": Kind.READ, "W": Kind.WRITE}


def recognise(head: bytes) -> bool:
    """Return whether the first line is a request, or the names of the columns."""
    return titled(head, _TITLE, _LINE)


def read(source: TextFile, sink: Sink) -> None:
    """Pass the requests of a disk (``sda``) to a sink. Raises TraceError."""
    spans.do(_requests(source, sink), sink)


def _requests(source: TextFile, sink: Sink) -> Iterator[tuple[Op, int]]:
    """Yield the requests, and when each completed."""
    form = "time, command, process, disk, R or W, sector, bytes, latency"
    for seconds, disk, kind, sector, length, whole, fraction in source.rows(_TITLE, _LINE, form):
        if disk is None:
            sink.skip(NOT_DATA)
            continue
        if not int(length):
            sink.leave_out(disk, NOT_DATA)
            continue
        if not sink.wants(disk):
            continue
        if sector.startswith("-"):
            raise source.error(f"{sector} is not a sector")
        completed = spans.nanoseconds(seconds)
        took = int(whole) * MILLISECOND + int(fraction.ljust(6, "0"))
        offset = int(sector) * SECTOR
        # times count from the first completion: what was issued before is a negative time
        yield Op(0, _KINDS[kind], 0, offset, int(length), completed - took), completed
