"""blktrace's binary files, versions 7 and 8 (linux/include/uapi/linux/blktrace_api.h).

A file is a series of structs, each followed by ``pdu_len`` bytes, in the byte order of the traced
machine: ``struct blk_io_trace`` (version 7), or ``struct blk_io_trace2`` (version 8, of newer
kernels), whose actions have 64 bits and include write zeroes. blktrace writes a file per CPU: they
are read together here. ``blkparse -d`` makes one file of them.

Times are ns. One of the events has the wall time.
"""

import heapq
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from analysis.interop.blk_events import Event, Matcher, begins_with
from analysis.interop.foreign_file import BinaryFile
from analysis.interop.order import nearly_sorted
from analysis.interop.sink import Sink
from tracer.op import Kind

MAGIC = 0x65617400
"""The upper three bytes of each struct's first number; the last byte is the version."""

_FIELDS_7 = "IIQQIIIIIHH"
"""magic, sequence, time, sector, bytes, action, pid, device, cpu, error, pdu_len."""

_FIELDS_8 = "IIQQIIQIIHH12x"
"""magic, sequence, time, sector, bytes, pid, action, device, cpu, error, pdu_len, padding."""

WRITE, FLUSH, PASSTHROUGH, NOTIFY, DISCARD, FUA = (1 << bit for bit in (1, 2, 9, 10, 13, 15))
ZONE = 0x3F << 16
WRITE_ZEROES = 1 << 22
"""Categories (BLK_TC_*): the upper bits of an action, from bit 16 on."""

ACTIONS = {1: "Q", 6: "R", 7: "D", 8: "C"}
"""The lower bits of an action (__BLK_TA_*), and blkparse's letters for them."""

OF_CGROUP = 1 << 8
"""__BLK_TA_CGROUP: a lower bit that only says what follows the struct."""

CPU_FILE = re.compile(r"(.*\.blktrace\.)\d+")
"""The name of one CPU's file. The file is empty if that CPU did nothing."""

TIMESTAMP = 1
"""__BLK_TN_TIMESTAMP, if the category is NOTIFY: seconds and ns since 1970 follow."""

MESSAGE = 2
"""__BLK_TN_MESSAGE: text of an I/O scheduler's follows."""

PIPED = 1 << 16
"""Places that an event may be too late in a file of all CPUs. If blktrace writes to a pipe, it
takes up to 512 KiB of one CPU's events before those of the next (blktrace(8), -b and -n)."""

ONE_CPU = 1 << 8
"""Places that an event may be too late in the file of one CPU: an interrupt writes its events
first."""


def recognise(head: bytes) -> bool:
    """Return whether a file begins with the magic number, in either byte order."""
    return _order(head[:4]) is not None


def read(source: BinaryFile, sink: Sink) -> None:
    """Pass the requests of a device (``8,0``) to a sink. Raises TraceError."""
    with ExitStack() as stack:

        def other(path: Path) -> BinaryFile:
            return stack.enter_context(BinaryFile(path))

        paths = _cpus(source.path)
        begins = begins_with(_merged([_events(other(path)) for path in paths]), sink.device)
        sources = [source if path == source.path else other(path) for path in paths]
        matcher = Matcher(sink, begins)
        for event in _merged([_events(file, sink.clock) for file in sources]):
            matcher.see(event)
        matcher.finish()


def _cpus(path: Path) -> list[Path]:
    """Return the files of all CPUs (``sda.blktrace.0``, ...) if this is one of them, else this."""
    match = CPU_FILE.fullmatch(path.name)
    if match is None:
        return [path]
    name = re.compile(re.escape(match[1]) + r"\d+")
    return sorted(other for other in path.parent.iterdir() if name.fullmatch(other.name))


def _merged(files: list[Iterator[Event]]) -> Iterator[Event]:
    """Yield the events of all files in the order of time."""

    def time(event: Event) -> int:
        return event.time

    window = PIPED if len(files) == 1 else ONE_CPU
    return heapq.merge(*(nearly_sorted(file, window, time) for file in files), key=time)


def _order(magic: bytes) -> str | None:
    """Return the byte order as ``struct`` writes it, or None if this is not a magic number."""
    for order in "<>":
        if len(magic) == 4 and struct.unpack(f"{order}I", magic)[0] & ~0xFF == MAGIC:
            return order
    return None


def _events(source: BinaryFile, clock: Callable[[int, int], None] | None = None) -> Iterator[Event]:
    """Yield the events of requests. ``clock`` gets the wall time."""
    while source.rest:
        source.record = source.at
        magic = source.take(4)
        order = _order(magic)
        version = 0 if order is None else struct.unpack(f"{order}I", magic)[0] & 0xFF
        if version not in (7, 8):
            what = f"version {version} of blktrace is not supported" if order else "not an event"
            raise source.error(what)
        layout = struct.Struct(f"{order}{_FIELDS_7 if version == 7 else _FIELDS_8}")
        fields = layout.unpack(magic + source.take(layout.size - 4))
        _, _, time, sector, length, *middle, device, _, error, extra = fields
        action = middle[0] if version == 7 else middle[1]
        data = source.take(extra)
        category = action >> 16
        number = action & 0xFFFF & ~OF_CGROUP
        if category & NOTIFY:
            if number == TIMESTAMP and len(data) >= 8 and clock is not None:
                seconds, ns = struct.unpack_from(f"{order}II", data)
                clock(seconds * 10**9 + ns, time)
            elif number == MESSAGE:
                yield Event(time, "m", f"{device >> 20},{device & 0xFFFFF}", 0, 0, None)
        elif number not in ACTIONS:
            yield Event(time, "other", f"{device >> 20},{device & 0xFFFFF}", 0, 0, None)
        else:
            kind = _kind(category, length)
            yield Event(
                time, ACTIONS[number], f"{device >> 20},{device & 0xFFFFF}",
                0 if kind == Kind.FLUSH else sector, length, kind,
                bool(category & FUA), bool(category & FLUSH and length), error,
            )  # fmt: skip


def _kind(category: int, length: int) -> Kind | None:
    if category & (PASSTHROUGH | ZONE):
        return None
    if category & FLUSH and not length:
        return Kind.FLUSH
    if category & DISCARD:
        return Kind.TRIM
    if category & WRITE_ZEROES:
        return Kind.ZERO
    if category & WRITE:
        return Kind.WRITE
    return Kind.READ if length else None
