"""Programs and parts of a trace as traces.

A part is written as it was recorded, for a run that lacks ops and does not look at what reads
returned. A program is written as a trace that stands by itself: its reads have the digests of what
they must return.
"""

import uuid
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from replay.minimize.program import Program, Step
from tracer.digest import digest
from tracer.disk.file import FileDevice
from tracer.disk.private import PrivateFolder, Use
from tracer.disk.raw import make_raw
from tracer.op import MUTATING, Buffer, Kind, Leaves, Op, TrimRule, effect
from tracer.trace.data import TraceWithData
from tracer.trace.header import Header
from tracer.trace.output import TraceOutput
from tracer.trace.records import End, Restart

EVENT = 1000
"""Ns from one event of a program to the next in its trace."""


def data_of(step: Step, source: TraceWithData) -> Buffer | None:
    """Return what a step brings. Raises TraceError if the trace cannot be read."""
    fill = step.fill
    if fill is None:
        return None
    if fill.byte is not None:
        return bytes([fill.byte]) * step.length
    recorded = source.data(source.trace.op(fill.number))
    assert recorded is not None
    return memoryview(recorded)[fill.at : fill.at + step.length]


def header_of(source: TraceWithData, program: Program, **facts: Any) -> Header:
    """Return the header of a trace made from ``source``. ``facts`` say how it came about."""
    starts = any(step.kind == Kind.START for step in program.steps)
    return replace(
        source.trace.header,
        id=uuid.uuid4().hex,
        size=program.size,
        payloads="full",
        start_image="recorded" if starts else "blank",
        cut={},
        profile={},
        minimized=facts,
    )


def write_program(
    path: Path, program: Program, source: TraceWithData, header: Header | None = None
) -> None:
    """Write a program to a new trace. Raises TraceError, StorageError."""
    with TraceOutput(path, header or header_of(source, program)) as output:
        restarts = [
            Restart(seq, step.begin * EVENT - 1, "minimized")
            for seq, step in enumerate(program.steps)
            if step.restart
        ]
        ops = _stored(program, source, output)
        for op in sorted(ops, key=lambda op: op.completed):
            while restarts and restarts[0].seq <= op.seq:
                output.restart(restarts.pop(0))
            output.op(op)
        output.close(End(len(ops), 0, 2 * len(ops) * EVENT, "minimized"))


def _stored(program: Program, source: TraceWithData, output: TraceOutput) -> list[Op]:
    """Return the ops of a program, in the order of submission, with what they bring in the payload
    store. Reads have the digest of what the ops before them leave."""
    ops = []
    with ExitStack() as stack:
        disk: FileDevice | None = None
        if any(step.kind == Kind.READ for step in program.steps):
            raw = stack.enter_context(PrivateFolder(Use.REPLAY)).path / "reference.raw"
            make_raw(raw, program.size)
            disk = stack.enter_context(FileDevice(raw, durable=False))
        for seq, step in enumerate(program.steps):
            op = Op(
                seq, step.kind, step.flags, step.offset, step.length,
                step.begin * EVENT + EVENT, step.end * EVENT + EVENT, connection=step.connection,
            )  # fmt: skip
            data = data_of(step, source)
            if data is not None:
                output.store(op, bytes(data))
            if disk is not None:
                _do(op, data, disk, source.trace.header.trim)
            ops.append(op)
    return ops


def _do(op: Op, data: Buffer | None, disk: FileDevice, rule: TrimRule) -> None:
    """Do an op on the reference, or note in a read what it returns."""
    if op.kind == Kind.READ:
        op.digest = digest(disk.read(op.offset, op.length))
    elif op.kind in MUTATING:
        leaves = effect(op, rule).leaves
        if leaves is Leaves.DATA:
            disk.execute(Kind.WRITE, 0, op.offset, op.length, data)
        elif leaves is Leaves.ZEROES:
            disk.execute(Kind.TRIM, 0, op.offset, op.length, None)
