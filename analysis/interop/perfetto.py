"""Chrome's trace event format, which ui.perfetto.dev shows ("Trace Event Format",
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU).

Each op is a complete event ("X"). Ops in flight together are on different rows, and a row is used
again once its op is done, so there are as many rows as ops were in flight at most. An op that never
completed begins ("B") and does not end. Marks, mismatches and restarts are instants ("i") on the
row of the process. Times are microseconds with three decimals.
"""

import heapq
import json
from collections import Counter
from collections.abc import Iterator

from analysis.interop.job import Job
from tracer.op import KIND_BY_NUMBER, NO_TIME, SECTOR, Fault, Kind, Op, flag_names
from tracer.trace.file import Trace
from tracer.trace.order import by_seq

PROCESS = 1
"""The number of the process. The format has processes and threads: a trace is a process, a row is a
thread. Threads count from 1, as Perfetto takes thread 0 for the main thread of the process, which
has the number of the process."""


def write(job: Job) -> dict[str, int]:
    """Write a trace's ops, marks, mismatches and restarts as JSON; return what was left out."""
    left_out: Counter[str] = Counter()
    with Trace(job.trace) as trace, job.new.open("w") as file:
        file.write('{"displayTimeUnit": "ns", "traceEvents": [\n')
        file.write(_name("process_name", PROCESS, job.trace.name))
        for mark in trace.marks():
            file.write(",\n" + _instant(mark.name, mark.time, {"before op": mark.seq}))
        for found in trace.mismatches():
            name = f"mismatch: {Fault(found.fault).label}"
            place = {"op": found.seq, "sector": found.offset // SECTOR}
            file.write(",\n" + _instant(name, found.time, place))
        for restart in trace.restarts():
            name = f"restart: {restart.why}"
            file.write(",\n" + _instant(name, restart.time, {"before op": restart.seq}))
        if settles := len(trace.settles()):
            left_out["settle"] += settles
        rows = 0
        for op, row in _rows(by_seq(trace.ops(), trace.recorded)):
            job.progress(1)
            if op.kind == Kind.START:
                left_out["pieces of the start image"] += 1
                continue
            if row > rows:
                rows = row
                file.write(",\n" + _name("thread_name", row, f"in flight {row}"))
            file.write(",\n" + _event(op, row))
        file.write("\n]}\n")
    return left_out


def _rows(ops: Iterator[Op]) -> Iterator[tuple[Op, int]]:
    """Yield the ops by submission, each with the lowest free row."""
    busy: list[tuple[int, int]] = []
    free: list[int] = []
    for op in ops:
        while busy and busy[0][0] <= op.submitted:
            heapq.heappush(free, heapq.heappop(busy)[1])
        row = heapq.heappop(free) if free else len(busy) + 1
        heapq.heappush(busy, (op.completed, row))
        yield op, row


def _event(op: Op, row: int) -> str:
    """Return an op as JSON."""
    arguments = f'"op": {op.seq}'
    if op.length:
        arguments += f', "sector": {op.sectors.start}, "sectors": {len(op.sectors)}'
        arguments += f', "offset": {op.offset}, "length": {op.length}'
    if op.flags:
        arguments += f', "flags": "{" ".join(flag_names(op.flags))}"'
    if op.reference_status or op.test_status:
        arguments += f', "errno": {op.test_status or op.reference_status}'
    if op.completed == NO_TIME:
        phase, took = "B", ""
        arguments += ', "completed": false'
    else:
        phase, took = "X", f', "dur": {_time(op.completed - op.submitted)}'
    return (
        f'{{"ph": "{phase}", "pid": {PROCESS}, "tid": {row}, "cat": "op", '
        f'"name": "{KIND_BY_NUMBER[op.kind].label}", '
        f'"ts": {_time(op.submitted)}{took}, "args": {{{arguments}}}}}'
    )


def _instant(name: str, time: int, arguments: dict[str, int]) -> str:
    """Return a mark or a mismatch as JSON."""
    head = f'{{"ph": "i", "s": "p", "pid": {PROCESS}, "tid": {PROCESS}, "ts": {_time(time)}, '
    return f'{head}"name": {json.dumps(name)}, "args": {json.dumps(arguments)}}}'


def _name(what: str, row: int, name: str) -> str:
    event = {"ph": "M", "pid": PROCESS, "tid": row, "name": what, "args": {"name": name}}
    return json.dumps(event)


def _time(ns: int) -> str:
    """Return exact microseconds. A float would round the times of a long trace."""
    return f"{ns // 1000}.{ns % 1000:03d}"
