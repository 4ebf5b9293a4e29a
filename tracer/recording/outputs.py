"""The trace of a recording: reserve its files, create it, record the start image, remove it if the
recording does not start."""

import time
import uuid
from contextlib import ExitStack
from pathlib import Path

from tracer.below.following import Following
from tracer.below.stream import LowerHeader, Store, lower_path
from tracer.digest import is_zero
from tracer.disk import sparse
from tracer.disk.file import FileDevice
from tracer.driver import environment
from tracer.errors import UsageError
from tracer.files import check_free
from tracer.interrupts import held as signals_wait
from tracer.op import Conflicts, OnConflict
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


class NewTrace:
    """The files of a new trace. Until ``begin``, they are elsewhere if they replace an older trace:
    it stays as it is if the recording does not start, however it ends."""

    def __init__(self, options: RecordOptions, locks: Locks, undo: ExitStack) -> None:
        """Lock the trace and its payload store before anything is touched. Missing ones are
        created, so that no other recording takes their names; ``undo`` removes these.

        Raises UsageError if another recording has one, or if one exists without ``force``.
        """
        self._options = options
        self._locks = locks
        self._undo = undo
        paths = options.trace, new_payload_path(options.trace)
        if options.below:
            check_free(lower_path(options.trace), options.force)
        for path in paths:
            locks.take(path)
            check_free(path, options.force)
        self._path = options.trace
        self._id = uuid.uuid4().hex
        if any(path.exists() for path in paths):
            self._path = options.trace.with_name(f".{options.trace.stem}.new{options.trace.suffix}")
        for path in paths if options.payloads is Payloads.FULL else paths[:1]:
            if not path.exists():
                with signals_wait():
                    if locks.take(path, create=True):
                        undo.callback(path.unlink, missing_ok=True)

    def open(self, size: int, start: Ranges) -> TraceOutput:
        """Create the trace of a disk of ``size`` bytes that holds data in ``start``; ``undo``
        removes it. Raises StorageError."""
        options = self._options
        header = Header(
            size=size,
            payloads=options.payloads,
            driver=options.driver.describe(),
            host=environment.host(),
            tools=environment.versions(options.driver),
            started=time.time_ns(),
            trim=options.trim,
            conflicts=Conflicts.HELD if options.conflicts is OnConflict.HOLD else Conflicts.SENT,
            start_image="recorded" if start else "blank",
            id=self._id,
        )
        with signals_wait():
            self._undo.callback(self._remove)
            return TraceOutput(self._path, header, hurry=True)

    def follow(self, image: Path) -> Following:
        """Record what the driver does to its image, beside the trace. Raises DriverError,
        StorageError."""
        options = self._options
        if not options.driver.owns_image:
            raise UsageError(f"--below: {options.driver.name} has no image file of ours")
        store = Store.TRACE if options.payloads is Payloads.FULL else Store.NONE
        header = LowerHeader(self._id, image.stat().st_size, options.driver.describe(), store)
        path = lower_path(options.trace)
        if not path.exists():
            self._undo.callback(path.unlink, missing_ok=True)
        return Following(image, path, header)

    def begin(self, output: TraceOutput) -> None:
        """Replace the older trace, if there is one: the recording has begun. Raises
        StorageError."""
        if self._path != self._options.trace:
            for path in (self._path, payload_path(self._path)):
                self._locks.take(path)
            output.move(self._options.trace)

    def _remove(self) -> None:
        """Remove the trace and its payload store, because the recording did not start."""
        for path in (self._path, payload_path(self._path)):
            if path.is_file():
                path.unlink()


def held(reference: FileDevice) -> Ranges:
    """Return the ranges of the reference that are not holes."""
    return sparse.data(reference.fd, 0, reference.export.size)


def record_start(recorder: Recorder, reference: FileDevice, start: Ranges) -> None:
    """Record the data that the disk holds already, as start ops. Raises StorageError."""
    with bar("recording what the disk holds", sum(b - a for a, b in start)) as progress:
        for first, last in start:
            for offset in range(first, last, START_PIECE):
                piece = reference.read(offset, min(START_PIECE, last - offset))
                if not is_zero(piece):
                    recorder.record_start(offset, piece)
                progress(len(piece))
