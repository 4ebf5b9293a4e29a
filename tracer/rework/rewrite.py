"""A trace that is made from another one: whole or not at all, and over nothing unasked."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tracer.errors import UsageError
from tracer.files import check_new, replaced, whole
from tracer.trace.header import Header
from tracer.trace.output import TraceOutput
from tracer.trace.payloads import new_payload_path, payload_path


def check_output(out: Path, source: Path, *, force: bool) -> None:
    """Raise UsageError if ``out`` cannot become a trace made from ``source``."""
    new = out, new_payload_path(out)
    for path in new:
        check_new(path, force)
    lost = replaced(new, (source, payload_path(source)))
    if lost is not None:
        raise UsageError(f"{out} would replace {lost}, which it is made from: name another")


@contextmanager
def new_trace(out: Path, header: Header) -> Iterator[TraceOutput]:
    """A trace that appears at ``out`` when the block, which must close it, ends. If an exception ends
    the block, nothing there has changed. Raises StorageError."""
    with whole(payload_path(out), out) as folder, TraceOutput(folder / out.name, header) as written:
        yield written


def derived(header: Header, **changes: object) -> Header:
    """A header like another trace's, with an id of its own."""
    return replace(header, id=uuid.uuid4().hex, **changes)  # type: ignore[arg-type]
