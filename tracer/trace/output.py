"""A trace that is being written: the trace file, and the payload store if it keeps payloads."""

import os
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
from tracer.trace.records import End, Mark, Mismatch, Restart, Settle, pack_op

BATCH = 1024
"""Ops that ``op`` gathers for one system call."""


class TraceOutput:
    """Writes a trace and its payloads. All methods except ``abandon`` raise StorageError.

    A context manager. If the block does not call ``close``, the trace has no end record.
    """

    def __init__(self, path: Path, header: Header, *, hurry: bool = False) -> None:
        """Create the trace's files. If it has digests alone, remove a payload store of the same
        name: it would belong to another trace. With ``hurry``, because a guest waits, rather keep
        up than compress."""
        self.id = header.id
        self.payloads: PayloadWriter | None = None
        """The payload store; None if the trace has digests alone."""
        self._records: list[bytes] = []
        self._trace = TraceWriter(path, header)
        self.write: Callable[[list[bytes]], None] = self._trace.write
        """Append packed records in one system call. Do not mix with ``op``, which gathers
        records."""
        try:
            store = payload_path(path)
            if header.payloads == "full":
                self.payloads = PayloadWriter(store, header.id, hurry=hurry)
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
        """Store data whose digest is ``key``; return its position, or NO_PAYLOAD if the trace has
        digests alone. Waits while the payload store is full."""
        if self.payloads is None:
            return NO_PAYLOAD
        self.payloads.wait_for_room()
        if self.payloads.error is not None:
            raise self.payloads.error
        return self.payloads.put(key, data)

    def store(self, op: Op, data: bytes) -> None:
        """Store the data of an op, and set the op's digest and payload position."""
        op.digest = digest(data)
        op.payload = self.put(op.digest, data)

    def op(self, op: Op) -> None:
        """Append an op with the next batch."""
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

    def settle(self, settle: Settle) -> None:
        """Append a settle."""
        self.flush()
        self._trace.settle(settle)

    def restart(self, restart: Restart) -> None:
        """Append a restart."""
        self.flush()
        self._trace.restart(restart)

    def flush(self) -> None:
        """Append the gathered ops."""
        if self._records:
            records, self._records = self._records, []
            self._trace.write(records)

    def sync(self) -> None:
        """Wait until everything that was written is on the disk."""
        self.flush()
        if self.payloads is not None:
            self.payloads.sync()
        self._trace.sync()
        if self.payloads is not None and self.payloads.error is not None:
            raise self.payloads.error

    def move(self, path: Path) -> None:
        """Give the trace another name in its folder; it replaces what has that name. Its payload
        store goes with it."""
        store = payload_path(path)
        try:
            if self.payloads is None:
                store.unlink(missing_ok=True)
            else:
                os.replace(self.payloads.path, store)
                self.payloads.path = store
            os.replace(self._trace.path, path)
        except OSError as error:
            raise StorageError(f"cannot replace {path}: {error.strerror}") from error
        self._trace.path = path

    def close(self, end: End | None) -> None:
        """Append the end record, if there is one, and close the files, even after an error. A trace
        without an end record counts as not closed."""
        try:
            self.flush()
            if end is not None:
                self._trace.close(end)
            if self.payloads is not None:
                self.payloads.close()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the files as they are. Does nothing after ``close``."""
        self._trace.abandon()
        if self.payloads is not None:
            with suppress(StorageError):
                self.payloads.close()
