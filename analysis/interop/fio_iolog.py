"""fio's iologs, versions 2 and 3: a line per request.

``fio --write_iolog`` writes them, and ``--read_iolog`` reads them (HOWTO.rst, "Trace file format";
iolog.c). Version 3 (fio 3.31 and later) has the microsecond at which each request was issued,
version 2 has waits between requests. Neither has completion times, so each request completes before
the next begins. Iologs have no write zeroes, no FUA and no payloads: a fio job that reads an iolog
writes data of its own (``--buffer_pattern``, ...).

fio skips actions that it does not know, and waits in version 3 (iolog.c). So does the import.
"""

import re
from collections import Counter

from analysis.interop.foreign_file import TextFile
from analysis.interop.job import Job
from analysis.interop.sink import Sink, pieces
from tracer.op import Kind, Op
from tracer.trace.file import Trace
from tracer.trace.order import by_seq

KINDS = {
    "read": Kind.READ,
    "write": Kind.WRITE,
    "trim": Kind.TRIM,
    "sync": Kind.FLUSH,
    "datasync": Kind.FLUSH,
}
FILE_ACTIONS = ("add", "open", "close")

UNKNOWN = "action that fio does not know"

MICROSECOND = 1000
"""Nanoseconds."""

_HEADER = re.compile(r"fio version ([23]) iolog")


def recognise(head: bytes) -> bool:
    """Return whether the first line is the header of a supported version."""
    return _HEADER.match(head.decode(errors="replace")) is not None


def read(source: TextFile, sink: Sink) -> None:
    """Pass the requests of an iolog to a sink. A device is a file's name. Raises TraceError."""
    lines = iter(source)
    header = _HEADER.match(next(lines, ""))
    if header is None:
        raise source.error("not 'fio version 2 iolog' or 'fio version 3 iolog'")
    timed = header[1] == "3"
    now = 0
    for line in lines:
        words = line.split()
        if not words:
            continue
        if timed:
            now = source.integer(words.pop(0), "a time") * MICROSECOND
        if len(words) == 2:
            if words[1] not in FILE_ACTIONS:
                sink.leave_out(words[0], UNKNOWN)
            continue
        if len(words) != 4:
            raise source.error("expected a file, an action, an offset and a length")
        name, action, *numbers = words
        offset, length = (source.integer(word, "a number of bytes") for word in numbers)
        if action == "wait":
            if timed:
                sink.leave_out(name, "wait, which fio skips in version 3")
            else:
                now += offset * MICROSECOND
        elif action not in KINDS:
            known = action == "sync_file_range"
            sink.leave_out(name, action if known else UNKNOWN)
        elif sink.wants(name):
            # fio logs an offset and a length even with a flush
            flush = KINDS[action] == Kind.FLUSH
            sink.do(Op(0, KINDS[action], 0, 0 if flush else offset, 0 if flush else length, now))


ACTIONS = {Kind.READ: "read", Kind.WRITE: "write", Kind.ZERO: "write", Kind.START: "write",
           Kind.TRIM: "trim", Kind.FLUSH: "sync"}  # fmt: skip
"""The action in an iolog for each kind of op."""


def write(job: Job) -> dict[str, int]:
    """Write a trace's requests as a version 3 iolog; return what was left out, and how often.

    The file in the iolog is named after the iolog. fio's ``--replay_redirect`` names another file.
    """
    name = re.sub(r"[^\w.-]", "_", job.output.stem) + ".raw"
    left_out: Counter[str] = Counter()
    with Trace(job.trace) as trace, job.new.open("w") as file:
        file.write(f"fio version 3 iolog\n0 {name} add\n0 {name} open\n")
        last = 0
        for op in by_seq(trace.ops(), trace.recorded):
            job.progress(1)
            last = op.submitted // MICROSECOND
            action = ACTIONS.get(Kind(op.kind))
            if action is None:
                left_out[Kind(op.kind).label] += 1
                continue
            if action == "write":  # fio needs memory for a whole write: cut zeroes like writes
                op.kind = Kind.WRITE
            for offset, length in pieces(op):
                file.write(f"{last} {name} {action} {offset} {length}\n")
        file.write(f"{last} {name} close\n")
    return left_out
