"""The files that a recording writes, and what they begin with."""

import time
from collections.abc import Callable

from tracer import environment, sparse
from tracer.compare import Comparison
from tracer.device import FileDevice
from tracer.digest import is_zero
from tracer.driver import Running
from tracer.errors import StorageError
from tracer.loop import Loop
from tracer.payload import PayloadWriter, payload_path
from tracer.plan import Plan
from tracer.progress import bar
from tracer.recorder import Recorder
from tracer.trace import Header, TraceWriter

START_PIECE = 1 << 20
"""Bytes of the start image in one op."""


def open_outputs(
    plan: Plan,
    loop: Loop,
    reference: FileDevice,
    running: Running,
    comparison: Comparison,
    say: Callable[[str], None],
) -> tuple[Recorder, TraceWriter, PayloadWriter | None]:
    """Start the trace, with what the disk holds already."""
    size = reference.export.size
    data = [(a, b) for a, b, is_data in sparse.extents(reference.fd, 0, size) if is_data]
    header = Header(
        size=size,
        payloads=plan.payloads,
        driver=plan.driver.describe(),
        host=environment.host(),
        tools=environment.versions(plan.driver),
        started=time.time_ns(),
        trim=plan.trim,
        start_image="recorded" if data else "blank",
    )
    payloads = None
    old = payload_path(plan.trace)
    try:
        trace = TraceWriter(plan.trace, header)
        if plan.payloads == "full":
            payloads = PayloadWriter(old, header.id)
        else:
            old.unlink(missing_ok=True)
    except StorageError:
        remove_outputs(plan)
        raise
    recorder = Recorder(
        loop, reference, running.device, comparison, trace, payloads,
        stop_on_mismatch=plan.on_mismatch == "stop", sync=plan.sync, say=say,
    )  # fmt: skip
    with bar("recording what the disk holds", sum(b - a for a, b in data)) as progress:
        for start, end in data:
            for offset in range(start, end, START_PIECE):
                piece = reference.read(offset, min(START_PIECE, end - offset))
                if not is_zero(piece):
                    if payloads is not None:
                        payloads.wait_for_room()
                    recorder.record_start(offset, piece)
                progress(len(piece))
    return recorder, trace, payloads


def remove_outputs(plan: Plan) -> None:
    """Leave no trace of a recording that did not begin."""
    for path in (plan.trace, payload_path(plan.trace)):
        if path.is_file():
            path.unlink()
