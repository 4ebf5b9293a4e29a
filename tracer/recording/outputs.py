"""The trace of a recording: create it, record the start image, remove it if the recording does not
start."""

import time

from tracer.digest import is_zero
from tracer.disk import sparse
from tracer.disk.file import FileDevice
from tracer.driver import environment
from tracer.errors import StorageError
from tracer.progress import bar
from tracer.recording.options import RecordOptions
from tracer.recording.recorder import Recorder
from tracer.trace.header import Header
from tracer.trace.output import TraceOutput
from tracer.trace.payloads import payload_path

START_PIECE = 1 << 20
"""The most bytes of the start image in one op."""


def open_output(options: RecordOptions, reference: FileDevice) -> TraceOutput:
    """Create the trace of a disk that starts with the reference's data. Raises StorageError."""
    header = Header(
        size=reference.export.size,
        payloads=options.payloads,
        driver=options.driver.describe(),
        host=environment.host(),
        tools=environment.versions(options.driver),
        started=time.time_ns(),
        trim=options.trim,
        start_image="recorded" if _data(reference) else "blank",
    )
    try:
        return TraceOutput(options.trace, header)
    except StorageError:
        remove_outputs(options)
        raise


def record_start(recorder: Recorder, reference: FileDevice) -> None:
    """Record the data that the disk holds already, as start ops. Raises StorageError."""
    data = _data(reference)
    with bar("recording what the disk holds", sum(b - a for a, b in data)) as progress:
        for start, end in data:
            for offset in range(start, end, START_PIECE):
                piece = reference.read(offset, min(START_PIECE, end - offset))
                if not is_zero(piece):
                    recorder.record_start(offset, piece)
                progress(len(piece))


def remove_outputs(options: RecordOptions) -> None:
    """Remove the trace and its payload store, because the recording did not start."""
    for path in (options.trace, payload_path(options.trace)):
        if path.is_file():
            path.unlink()


def _data(reference: FileDevice) -> list[tuple[int, int]]:
    """Return the byte ranges ``(start, end)`` of the reference that are not holes."""
    extents = sparse.extents(reference.fd, 0, reference.export.size)
    return [(start, end) for start, end, is_data in extents if is_data]
