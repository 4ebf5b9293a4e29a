"""Record a driver's lower ops while a guest uses the disk: NAME.lower grows beside the trace.

The driver gets its image through a FUSE file. What that logs is read again and again: the bytes go
to the trace's payload store, and what was read takes no room in the log.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from tracer.below.clock import Clock
from tracer.below.events import Event, Joiner
from tracer.below.log_writes import LogReader
from tracer.below.mounted import Mounted
from tracer.below.stored import stored, stored_image
from tracer.below.stream import LowerHeader, Piece, Store, pack, pack_header
from tracer.closing import Closing
from tracer.disk import sparse
from tracer.disk.private import PrivateFolder, Use
from tracer.errors import StorageError
from tracer.files import private, pwrite_all
from tracer.trace.payloads import PayloadWriter

BATCH = 1024
"""Moments after which the log is read: it then has a few thousand lower ops at most."""


class Following(Closing):
    """Follows a driver that uses ``path`` in place of ``image``. ``clock`` is told of guest ops.

    Raises DriverError if there is no FUSE here, StorageError.
    """

    def __init__(self, image: Path, lower: Path, header: LowerHeader) -> None:
        self._joiner = Joiner()
        self._lower = lower
        self._size = 0
        with ExitStack() as stack:
            folder = stack.enter_context(PrivateFolder(Use.REPLAY)).path
            log = folder / "log"
            log.touch()
            self._store: PayloadWriter | None = None
            self._start = folder / "start"
            try:
                if header.store is Store.TRACE:  # the driver changes it before ``begin``
                    sparse.copy(str(image), str(self._start))
                self._file = stack.enter_context(open(lower, "wb", 0, opener=private))
                self._write_all(pack_header(header))
            except OSError as error:
                raise self._failure(error) from error
            self.clock = stack.enter_context(Clock(log, image))
            self._reader = stack.enter_context(LogReader(log, self.clock.started))
            self.path = stack.enter_context(Mounted(image, log)).path
            self._stack = stack.pop_all()

    def begin(self, store: PayloadWriter | None) -> None:
        """Write the image as it was before the first op. From here on, ``store`` takes the bytes.
        Raises StorageError."""
        self._store = store
        if store is None:
            return
        try:
            self._append(stored_image(self._start, store))
            self._start.unlink()
        except OSError as error:
            raise self._failure(error) from error

    def turn(self) -> None:
        """Write what has come, if it is worth it. Raises StorageError."""
        if len(self.clock.moments) >= BATCH:
            self._write()

    def finish(self) -> None:
        """Write the rest: the driver has stopped, and the payload store is still open. Raises
        StorageError."""
        self._write(last=True)

    def close(self) -> None:
        """Unmount. A second call does nothing."""
        self._stack.close()

    def _write(self, *, last: bool = False) -> None:
        events: Iterable[Event] = self._joiner.more(self.clock.take(), self._reader.more())
        if last:
            events = chain(events, self._joiner.rest())
        if self._store is not None:
            events = stored(events, self._reader, self._store)
        try:
            self._append(events)
            self._reader.forget(self._joiner.waits_from)
        except OSError as error:
            raise self._failure(error) from error

    def _append(self, events: Iterable[Event | Piece]) -> None:
        self._write_all(b"".join(map(pack, events)))

    def _write_all(self, packed: bytes) -> None:
        pwrite_all(self._file.fileno(), packed, self._size)
        self._size += len(packed)

    def _failure(self, error: OSError) -> StorageError:
        return StorageError(f"cannot write {self._lower}: {error.strerror}")
