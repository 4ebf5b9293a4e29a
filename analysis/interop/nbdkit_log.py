"""The log file of nbdkit's log filter.

Source: nbdkit-log-filter(1), "Log file format"; filters/log/output.c of nbdkit.

    2020-08-06 02:07:23.080415 connection=1 Write id=2 offset=0x0 count=0x1000 fua=1 ...
    2020-08-06 02:07:23.080471 connection=1 ...Write id=2 return=0

Times are UTC, with microseconds. A request has the number ``id`` in its connection.
"""

import errno
import re
from datetime import UTC, datetime, timedelta

from analysis.interop.blk_events import LOST
from analysis.interop.foreign_file import TextFile
from analysis.interop.sink import Begun, Sink
from tracer.op import Flag, Kind, Op

_LINE = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}) (?:connection=(?P<connection>\d{1,9}) )?"
    r"(?P<end>\.\.\.)?(?P<what>[A-Z]\w{0,31})(?P<rest>(?: .*)?)"
)
_VALUE = re.compile(r" (\w{1,16})=(0x[0-9a-f]{1,16}|-?\d{1,19}|E[A-Z0-9]{1,15})(?= |$)")
_EXPORT = re.compile(r' export="((?:[^"\\]|\\.)*)"')

KINDS = {
    "Read": Kind.READ,
    "Write": Kind.WRITE,
    "Flush": Kind.FLUSH,
    "Trim": Kind.TRIM,
    "Zero": Kind.ZERO,
    "Cache": Kind.CACHE,
    "Extents": Kind.BLOCK_STATUS,
}

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def recognise(head: bytes) -> bool:
    """Return whether the first line is one of a log."""
    first = head.decode(errors="replace").partition("\n")[0].rstrip("\r")
    return _LINE.fullmatch(first) is not None


def read(source: TextFile, sink: Sink) -> None:
    """Pass the requests to a sink. A device is the name of an export. Raises TraceError."""
    in_flight: dict[tuple[int, int], Begun] = {}
    exports: dict[int, str] = {}
    at = 0
    for line in source:
        match = _LINE.fullmatch(line)
        if match is None:
            if not line.strip():
                continue
            raise source.error("not a line of nbdkit's log filter")
        at = _time(source, match["time"])
        connection = int(match["connection"] or 0)
        values = dict(_VALUE.findall(match["rest"]))
        if match["what"] not in KINDS:
            if match["what"] == "Connect":
                export = _EXPORT.match(match["rest"])
                exports[connection] = export[1] if export else ""
            sink.skip("line about the server or a connection")
            continue
        if "id" not in values:
            raise source.error("the request has no id")
        key = connection, _number(source, values, "id")
        if match["end"]:
            if key in in_flight:
                sink.end(in_flight.pop(key), at, _status(source, values))
            else:
                sink.leave_out(exports.get(connection, ""), "completion of what did not begin here")
        elif sink.wants(exports.get(connection, "")):
            sink.clock(at, at)
            # an id comes again if a log has those of several servers
            if key in in_flight or len(in_flight) == LOST:
                _give_up(
                    sink, in_flight.pop(key if key in in_flight else next(iter(in_flight))), at
                )
            in_flight[key] = sink.begin(_op(source, sink, KINDS[match["what"]], values, at))
    for begun in in_flight.values():
        _give_up(sink, begun, at)


def _give_up(sink: Sink, begun: Begun, at: int) -> None:
    """End a request without its completion."""
    sink.skip("completion that is missing")
    sink.end(begun, at)


def _time(source: TextFile, text: str) -> int:
    """Return a time in ns since 1970."""
    try:
        moment = datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
    except ValueError as error:
        raise source.error(f"{text} is not a time") from error
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


def _op(source: TextFile, sink: Sink, kind: Kind, values: dict[str, str], at: int) -> Op:
    op = Op(0, kind, submitted=at)
    if kind != Kind.FLUSH:
        op.offset = _number(source, values, "offset")
        op.length = _number(source, values, "count")
    if values.get("fua") == "1":
        op.flags |= Flag.FUA
    if kind == Kind.ZERO:
        op.flags |= 0 if values.get("trim") == "1" else Flag.NO_HOLE
        op.flags |= Flag.FAST_ZERO if values.get("fast") == "1" else 0
    if values.get("req_one") == "1":
        sink.skip("flag REQ_ONE")
    return op


def _status(source: TextFile, values: dict[str, str]) -> int:
    """Return the errno value of a request that has ended."""
    if values.get("return", "0") == "0":
        return 0
    name = values.get("error", "EIO")
    status = getattr(errno, name, None)
    if not isinstance(status, int):
        raise source.error(f"{name} is not an errno")
    return status


def _number(source: TextFile, values: dict[str, str], name: str) -> int:
    try:
        number = int(values[name], 0)
    except (KeyError, ValueError):
        number = -1
    if number < 0:
        raise source.error(f"the request has no {name}")
    return number
