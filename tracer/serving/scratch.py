"""A disk of the past that takes writes: they go to a temporary file, which ends with it."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tracer.closing import Closing
from tracer.disk.file import EVERYTHING, FileDevice
from tracer.errors import StorageError
from tracer.nbd import protocol as p
from tracer.op import MUTATING, Buffer, Extents, Kind
from tracer.ranges import RangeSet
from tracer.serving.past import Answer, Past


class Scratch(Closing):
    """The disk ``past`` with what was changed since.

    The temporary file is in TMPDIR, is sparse and has no name, so that nothing of it is left behind
    however we end. If its file system is full, writes fail with ENOSPC. Raises StorageError if the
    file cannot be made.
    """

    def __init__(self, past: Past) -> None:
        self.export = p.Export(past.export.size, int(EVERYTHING))
        self._past = past
        self._changed = RangeSet()
        try:
            with tempfile.TemporaryFile(prefix="blkbox-") as file:
                os.ftruncate(file.fileno(), past.export.size)
                self._file = FileDevice(Path(f"/proc/self/fd/{file.fileno()}"), durable=False)
        except OSError as error:
            raise StorageError(
                f"cannot make a temporary file in {tempfile.gettempdir()}: {error.strerror} "
                "(TMPDIR names the folder)"
            ) from error

    def execute(self, kind: int, offset: int, length: int, data: Buffer | None) -> Answer:
        """Do a request."""
        if kind in MUTATING:
            answer = self._file.execute(kind, 0, offset, length, data)
            if not answer[0]:  # what failed leaves the range as it was
                self._changed.add(offset, offset + length)
            return answer
        parts = [
            (self._file.execute(kind, 0, start, end - start, None) if changed
             else self._past.execute(kind, start, end - start, None))
            for start, end, changed in self._pieces(offset, length)
        ]  # fmt: skip
        error = next((error for error, _, _ in parts if error), 0)
        read = b"".join(data or b"" for _, data, _ in parts) if kind == Kind.READ else None
        extents: Extents = [extent for _, _, found in parts for extent in found]
        return error, None if error else read, extents

    def close(self) -> None:
        """Drop what was changed."""
        self._file.close()

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[int, int, bool]]:
        """Yield a range as consecutive pieces ``(start, end, changed)``."""
        at, stop = offset, offset + length
        for start, end in self._changed.within(offset, stop):
            if at < start:
                yield at, start, False
            yield start, end, True
            at = end
        if at < stop:
            yield at, stop, False
