"""Record a driver's lower ops while a guest uses the disk: NAME.lower grows beside the trace.

The driver gets its image through a FUSE file. What that logs is read again and again, and what was
read takes no room.
"""

import os
from contextlib import ExitStack
from pathlib import Path

from tracer.below.clock import Clock
from tracer.below.events import Event, Joiner
from tracer.below.log_writes import LogReader
from tracer.below.mounted import Mounted
from tracer.below.stream import LowerHeader, pack, pack_header
from tracer.closing import Closing
from tracer.disk.private import PrivateFolder, Use
from tracer.errors import StorageError
from tracer.files import private

BATCH = 1024
"""Moments after which the log is read: it then has a few thousand lower ops at most."""


class Following(Closing):
    """Follows a driver that uses ``path`` in place of ``image``. ``clock`` is told of guest ops.

    Raises DriverError if there is no FUSE here, StorageError.
    """

    def __init__(self, image: Path, lower: Path, header: LowerHeader) -> None:
        self._joiner = Joiner()
        with ExitStack() as stack:
            log = stack.enter_context(PrivateFolder(Use.REPLAY)).path / "log"
            log.touch()
            try:
                self._file = stack.enter_context(open(lower, "wb", 0, opener=private))
                self._file.write(pack_header(header))
            except OSError as error:
                raise StorageError(f"cannot write {lower}: {error.strerror}") from error
            self._lower = lower
            self._reader = stack.enter_context(LogReader(log))
            self.path = stack.enter_context(Mounted(image, log)).path
            self.clock = stack.enter_context(Clock(log, image))
            self._stack = stack.pop_all()

    def turn(self) -> None:
        """Write what has come, if it is worth it. Raises StorageError."""
        if len(self.clock.moments) >= BATCH:
            self._write()

    def close(self) -> None:
        """Write the rest, and unmount. The driver has stopped. A second call does nothing. Raises
        StorageError."""
        with self._stack.pop_all():
            if not self._file.closed:
                self._write(last=True)

    def _write(self, *, last: bool = False) -> None:
        events: list[Event] = list(self._joiner.more(self.clock.take(), self._reader.more()))
        if last:
            events += self._joiner.rest()
        packed = b"".join(map(pack, events))
        try:
            written = 0
            while written < len(packed):
                written += os.write(self._file.fileno(), memoryview(packed)[written:])
            self._reader.forget()
        except OSError as error:
            raise StorageError(f"cannot write {self._lower}: {error.strerror}") from error
