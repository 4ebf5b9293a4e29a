"""Programs and parts of a trace as traces.

A part is written as it was recorded, for a run that lacks ops and does not look at what reads
returned. A program is written as a trace that stands by itself: its reads have the digests of what
they must return.
"""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from replay.minimize.part import Part
from replay.minimize.program import Program, Step
from tracer.digest import digest
from tracer.disk.file import FileDevice
from tracer.disk.private import PrivateFolder, Use
from tracer.disk.raw import make_raw
from tracer.op import (
    MUTATING,
    Buffer,
    Kind,
    Leaves,
    Op,
    effect,
)
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


def header_of(source: TraceWithData, made: Program | Part, **facts: Any) -> Header:
    """Return the header of a trace made from ``source``. ``facts`` say how it came about."""
    starts = any(kind == Kind.START for kind in made.kinds())
    return replace(
        source.trace.header,
        id=uuid.uuid4().hex,
        size=made.size,
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
    header = header or header_of(source, program)
    with ExitStack() as stack:
        output = stack.enter_context(TraceOutput(path, header))
        ops = []
        for op, data in _ops(program, source):
            if data is not None:
                output.store(op, bytes(data))
            ops.append(op)
        if any(op.kind == Kind.READ for op in ops):
            _note_reads(program, source, ops)
        restarts = [
            Restart(seq, step.begin * EVENT - 1, "minimized")
            for seq, step in enumerate(program.steps)
            if step.restart
        ]
        for op in sorted(ops, key=lambda op: op.completed):
            while restarts and restarts[0].seq <= op.seq:
                output.restart(restarts.pop(0))
            output.op(op)
        output.close(End(len(ops), 0, 2 * len(ops) * EVENT, "minimized"))


def _ops(program: Program, source: TraceWithData) -> Iterator[tuple[Op, Buffer | None]]:
    for seq, step in enumerate(program.steps):
        op = Op(
            seq, step.kind, step.flags, step.offset, step.length, step.begin * EVENT + EVENT,
            step.end * EVENT + EVENT, connection=step.connection,
        )  # fmt: skip
        yield op, data_of(step, source)


def _note_reads(program: Program, source: TraceWithData, ops: list[Op]) -> None:
    """Give each read the digest of what it must return: what the ops before it leave."""
    rule = source.trace.header.trim
    with PrivateFolder(Use.REPLAY) as folder:
        raw = folder.path / "reference.raw"
        make_raw(raw, program.size)
        with FileDevice(raw, durable=False) as device:
            for op, data in zip(ops, (data_of(step, source) for step in program.steps),
                                strict=True):  # fmt: skip
                if op.kind == Kind.READ:
                    op.digest = digest(device.read(op.offset, op.length))
                elif op.kind in MUTATING:
                    leaves = effect(op, rule).leaves
                    if leaves is Leaves.DATA:
                        device.execute(Kind.WRITE, 0, op.offset, op.length, data)
                    elif leaves is Leaves.ZEROES:
                        device.execute(Kind.TRIM, 0, op.offset, op.length, None)
