"""The trace of a recording: reserve its files, create it, record the start image, remove it if the
recording does not start."""

import time
from contextlib import ExitStack

from tracer.digest import is_zero
from tracer.disk import sparse
from tracer.disk.file import FileDevice
from tracer.driver import environment
from tracer.errors import StorageError
from tracer.files import check_free
from tracer.interrupts import held as signals_wait
from tracer.progress import bar
from tracer.recording.locks import Locks
from tracer.recording.options import Payloads, RecordOptions
from tracer.recording.recorder import Recorder
from tracer.trace.header import Header
from tracer.trace.output import TraceOutput
from tracer.trace.payloads import new_payload_path, payload_path

START_PIECE = 1 << 20
"""The most bytes of the start image in one op."""


Ranges = list[tuple[int, int]]
"""Byte ranges ``(start, end)``, in the order of the disk."""


def reserve_outputs(options: RecordOptions, locks: Locks, undo: ExitStack) -> None:
    """Lock the trace and its payload store before anything is touched. Missing ones are created, so
    that no other recording takes their names; ``undo`` removes these.

    Raises UsageError if another recording has one, or if one exists without ``force``.
    """
    paths = options.trace, new_payload_path(options.trace)
    for path in paths:
        locks.take(path)
        check_free(path, options.force)
    for path in paths if options.payloads is Payloads.FULL else paths[:1]:
        if not path.exists():
            with signals_wait():
                if locks.take(path, create=True):
                    undo.callback(path.unlink, missing_ok=True)


def held(reference: FileDevice) -> Ranges:
    """Return the ranges of the reference that are not holes."""
    extents = sparse.extents(reference.fd, 0, reference.export.size)
    return [(start, end) for start, end, is_data in extents if is_data]


def open_output(options: RecordOptions, size: int, start: Ranges) -> TraceOutput:
    """Create the trace of a disk of ``size`` bytes that holds data in ``start``. Raises
    StorageError."""
    header = Header(
        size=size,
        payloads=options.payloads,
        driver=options.driver.describe(),
        host=environment.host(),
        tools=environment.versions(options.driver),
        started=time.time_ns(),
        trim=options.trim,
        start_image="recorded" if start else "blank",
    )
    try:
        return TraceOutput(options.trace, header, hurry=True)
    except StorageError:
        remove_outputs(options)
        raise


def record_start(recorder: Recorder, reference: FileDevice, start: Ranges) -> None:
    """Record the data that the disk holds already, as start ops. Raises StorageError."""
    with bar("recording what the disk holds", sum(b - a for a, b in start)) as progress:
        for first, last in start:
            for offset in range(first, last, START_PIECE):
                piece = reference.read(offset, min(START_PIECE, last - offset))
                if not is_zero(piece):
                    recorder.record_start(offset, piece)
                progress(len(piece))


def remove_outputs(options: RecordOptions) -> None:
    """Remove the trace and its payload store, because the recording did not start."""
    for path in (options.trace, payload_path(options.trace)):
        if path.is_file():
            path.unlink()
