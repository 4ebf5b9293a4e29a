"""Recording a guest with ``trace record``, and what came of it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.kit.command import trace
from tests.kit.data import MIB
from tests.kit.peers import need
from tests.kit.traces import read_trace
from tracer.digest import digest
from tracer.driver.spec import FORMATS
from tracer.op import NO_PAYLOAD, Kind, Op
from tracer.trace.effects import changes
from tracer.trace.payload_reader import PayloadReader
from tracer.trace.payloads import payload_path

SIZE = 8 * MIB


DRIVERS = ["raw", "qcow2"]


CHANGES = (Kind.START, Kind.WRITE, Kind.ZERO, Kind.TRIM)


def record(
    folder: Path, driver: str, *command: object, options: Sequence[object] = ()
) -> dict[str, Any]:
    """Record a guest's command on a new disk; it must end clean. Returns the summary."""
    if driver.partition("@")[0] in FORMATS and driver != "raw":
        need("qemu-nbd", "qemu-img")
    done = trace(
        "record", "t.trace", "--driver", driver, "--size", SIZE, "--json", *options, "--", *command,
        cwd=folder,
    )  # fmt: skip
    result = summary(done.stdout)
    assert result["verdict"] == "clean", result
    return result


def mine(folder: Path) -> list[Op]:
    """The ops of the guest, in order; those that the recorder adds come from connection 0."""
    return [op for op in read_trace(folder / "t.trace")[1] if op.connection]


def rebuild(path: Path) -> bytes:
    """What the disk holds at the end, from the trace and its payloads alone."""
    opened, ops = read_trace(path)
    disk = bytearray(opened.header.size)
    with PayloadReader(payload_path(path), opened.header.id) as payloads:
        in_order = sorted(((op.seq, op) for op in ops), key=lambda one: one[0])
        for _, op, start, end in changes(in_order, opened.settles):
            data = bytes(op.length)
            if op.payload != NO_PAYLOAD:
                data = payloads.read(op.payload, op.length)
                assert digest(data) == op.digest
            if op.kind in CHANGES and not op.test_status:
                disk[start:end] = data[start - op.offset : end - op.offset]
    return bytes(disk)


def summary(out: str) -> dict[str, Any]:
    """The summary as JSON, behind what the guest printed."""
    found: dict[str, Any] = json.loads(out[out.index("{\n") :])
    return found
