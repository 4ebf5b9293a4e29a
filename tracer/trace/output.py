"""A trace being written, with its payload store if it keeps payloads."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from tracer.digest import digest
from tracer.errors import StorageError
from tracer.op import NO_PAYLOAD, Op
from tracer.trace.file import TraceWriter
from tracer.trace.header import Header
from tracer.trace.payloads import PayloadWriter, payload_path
from tracer.trace.records import End, Mark, Mismatch, pack_op

BATCH = 1024
"""Ops that are written in one system call."""


class TraceOutput:
    """Writes a trace and its payloads. Every method but ``abandon`` raises StorageError.

    A context manager: a block that does not reach ``close`` leaves a trace that was not closed.
    """

    def __init__(self, path: Path, header: Header) -> None:
        """Create the files of a trace. If it has digests alone, a payload store that stands where its
        own would go is removed."""
        self.id = header.id
        self.payloads: PayloadWriter | None = None
        """The payload store; None if the trace has digests alone."""
        self._records: list[bytes] = []
        self._trace = TraceWriter(path, header)
        self.write: Callable[[list[bytes]], None] = self._trace.write
        """Append packed records in one system call. ``op`` gathers them: do not mix the two."""
        try:
            store = payload_path(path)
            if header.payloads == "full":
                self.payloads = PayloadWriter(store, header.id)
            else:
                store.unlink(missing_ok=True)
        except OSError as error:
            self._trace.abandon()
            raise StorageError(f"cannot remove {store}: {error.strerror}") from error
        except BaseException:
            self._trace.abandon()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def put(self, key: bytes, data: bytes) -> int:
        """Store data with the digest ``key``, once there is room; return its position, or NO_PAYLOAD if
        the trace has digests alone."""
        if self.payloads is None:
            return NO_PAYLOAD
        self.payloads.wait_for_room()
        if self.payloads.error is not None:
            raise self.payloads.error
        return self.payloads.put(key, data)

    def store(self, op: Op, data: bytes) -> None:
        """Store what an op brings; its digest and payload become those of ``data``."""
        op.digest = digest(data)
        op.payload = self.put(op.digest, data)

    def op(self, op: Op) -> None:
        """Append an op, with the next batch."""
        self._records.append(pack_op(op))
        if len(self._records) >= BATCH:
            self.flush()

    def mark(self, mark: Mark) -> None:
        """Append a mark."""
        self.flush()
        self._trace.mark(mark)

    def mismatch(self, mismatch: Mismatch) -> None:
        """Append a mismatch."""
        self.flush()
        self._trace.mismatch(mismatch)

    def flush(self) -> None:
        """Append the ops that were gathered."""
        if self._records:
            records, self._records = self._records, []
            self._trace.write(records)

    def sync(self) -> None:
        """Wait until all that was written is on the disk."""
        self.flush()
        if self.payloads is not None:
            self.payloads.sync()
        self._trace.sync()
        if self.payloads is not None and self.payloads.error is not None:
            raise self.payloads.error

    def close(self, end: End | None) -> None:
        """Append the end record and close the files; without one the trace counts as not closed. The
        files are closed in any case."""
        try:
            self.flush()
            if end is not None:
                self._trace.close(end)
            if self.payloads is not None:
                self.payloads.close()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the files as they are; after ``close`` there is nothing to do."""
        self._trace.abandon()
        if self.payloads is not None:
            with suppress(StorageError):
                self.payloads.close()
