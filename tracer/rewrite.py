"""Write a trace that is made from another one: whole or not at all, and over nothing unasked."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from tracer.digest import digest
from tracer.errors import StorageError, UsageError
from tracer.files import check_new
from tracer.op import CARRIES_DATA, NO_PAYLOAD, NO_TIME, Buffer, Op
from tracer.payload import PayloadWriter, new_payload_path, payload_path
from tracer.trace import End, Header, Mark, Mismatch, TraceWriter, pack_op

BATCH = 1024
"""Records that are written in one system call."""


class Rewriter:
    """Appends records to a new trace and payloads to its store, if it has one. Raises StorageError."""

    def __init__(self, path: Path, header: Header) -> None:
        self.ops = self.mismatches = self.last = 0
        """Ops and mismatches so far, and when the last op completed (ns)."""
        self._records: list[bytes] = []
        self._payloads: PayloadWriter | None = None
        self._open = True
        self._trace = TraceWriter(path, header)
        try:
            if header.payloads == "full":
                self._payloads = PayloadWriter(payload_path(path), header.id)
        except StorageError:
            self._trace.abandon()
            raise

    def op(self, op: Op, data: Buffer | None) -> None:
        """Append an op, which is ours from now on; ``data`` is what it brings. Its digest and payload
        become those of that, unless the trace keeps digests alone: then the op's digest stays."""
        op.payload = NO_PAYLOAD
        if self._payloads is not None and op.kind in CARRIES_DATA:
            assert data is not None
            content = bytes(data)
            op.digest = digest(content)
            op.payload = self._store(op.digest, content)
        self.ops += 1
        if op.completed != NO_TIME:
            self.last = max(self.last, op.completed)
        self._records.append(pack_op(op))
        if len(self._records) >= BATCH:
            self._flush()

    def mark(self, mark: Mark) -> None:
        """Append a mark."""
        self._flush()
        self._trace.mark(mark)

    def mismatch(self, mismatch: Mismatch, data: bytes | None) -> None:
        """Append a mismatch; ``data`` is what the test side returned, if that is known."""
        self._flush()
        payload = NO_PAYLOAD
        if self._payloads is not None and data is not None:
            payload = self._store(mismatch.digest, data)
        self.mismatches += 1
        self._trace.mismatch(replace(mismatch, payload=payload))

    def finish(self, end: End | None) -> None:
        """Write out what was appended, to the disk itself, and close the files; without an end record
        the trace counts as one that was not closed."""
        self._flush()
        if self._payloads is not None:
            self._payloads.sync()
            self._payloads.close()
        self._trace.sync()
        self._open = False
        if end is not None:
            self._trace.close(end)
        else:
            self._trace.abandon()

    def abandon(self) -> None:
        """Close the files as they are, unless that was done."""
        if self._open:
            self._trace.abandon()
            if self._payloads is not None:
                with suppress(StorageError):
                    self._payloads.close()

    def _store(self, mark: bytes, data: bytes) -> int:
        assert self._payloads is not None
        self._payloads.wait_for_room()
        return self._payloads.put(mark, data)

    def _flush(self) -> None:
        self._trace.write(self._records)
        self._records = []


def check_output(out: Path, source: Path, *, force: bool) -> None:
    """Raise UsageError where ``out`` cannot become a trace made from ``source``."""
    payloads = new_payload_path(out)
    for path in (out, payloads):
        check_new(path, force)
    for path in (source, payload_path(source)):
        if path.exists() and any(new.exists() and new.samefile(path) for new in (out, payloads)):
            raise UsageError(f"{out} would replace {path}, which it is made from: name another")


@contextmanager
def new_trace(out: Path, header: Header) -> Iterator[Rewriter]:
    """A trace that is at ``out`` once the block is left, which must have called ``finish``. Where an
    exception leaves it, nothing there has changed. Raises StorageError."""
    # names of their own in the same folder: renaming is what makes a file appear whole
    trace_at = out.with_name(f".{out.stem}-{header.id[:8]}.trace")
    payloads_at = payload_path(trace_at)
    with ExitStack() as stack:
        for path in (trace_at, payloads_at):
            stack.callback(path.unlink, missing_ok=True)
        written = Rewriter(trace_at, header)
        stack.callback(written.abandon)
        yield written
        if header.payloads == "full":
            payloads_at.replace(payload_path(out))
        else:
            payload_path(out).unlink(missing_ok=True)
        trace_at.replace(out)


def derived(header: Header, **changes: object) -> Header:
    """A header like another trace's, with an id of its own."""
    return replace(header, id=uuid.uuid4().hex, **changes)  # type: ignore[arg-type]
