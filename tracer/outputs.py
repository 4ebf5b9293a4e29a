"""The files that a recording writes, and what they begin with."""

import time

from tracer import environment, sparse
from tracer.device import FileDevice
from tracer.digest import is_zero
from tracer.errors import StorageError
from tracer.payload import payload_path
from tracer.plan import Plan
from tracer.progress import bar
from tracer.recorder import Recorder
from tracer.trace import Header
from tracer.trace_output import TraceOutput

START_PIECE = 1 << 20
"""Bytes of the start image in one op."""


def open_output(plan: Plan, reference: FileDevice) -> TraceOutput:
    """Create the trace, for a disk that holds what the reference does. Raises StorageError."""
    header = Header(
        size=reference.export.size,
        payloads=plan.payloads,
        driver=plan.driver.describe(),
        host=environment.host(),
        tools=environment.versions(plan.driver),
        started=time.time_ns(),
        trim=plan.trim,
        start_image="recorded" if _data(reference) else "blank",
    )
    try:
        return TraceOutput(plan.trace, header)
    except StorageError:
        remove_outputs(plan)
        raise


def record_start(recorder: Recorder, reference: FileDevice) -> None:
    """Record what the disk holds already. Raises StorageError."""
    data = _data(reference)
    with bar("recording what the disk holds", sum(b - a for a, b in data)) as progress:
        for start, end in data:
            for offset in range(start, end, START_PIECE):
                piece = reference.read(offset, min(START_PIECE, end - offset))
                if not is_zero(piece):
                    recorder.record_start(offset, piece)
                progress(len(piece))


def remove_outputs(plan: Plan) -> None:
    """Leave no trace of a recording that did not begin."""
    for path in (plan.trace, payload_path(plan.trace)):
        if path.is_file():
            path.unlink()


def _data(reference: FileDevice) -> list[tuple[int, int]]:
    """The byte ranges of the reference that are no holes."""
    extents = sparse.extents(reference.fd, 0, reference.export.size)
    return [(start, end) for start, end, is_data in extents if is_data]
