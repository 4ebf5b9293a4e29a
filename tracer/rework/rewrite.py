"""How a trace is made from another trace: written whole or not at all, and never replacing a file
unless the user gave --force."""

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
    """Raise UsageError if a trace made from ``source`` cannot be written to ``out``: a file exists
    there (unless ``force``), or it would replace ``source`` itself."""
    new = out, new_payload_path(out)
    for path in new:
        check_new(path, force)
    lost = replaced(new, (source, payload_path(source)))
    if lost is not None:
        raise UsageError(f"{out} would replace {lost}, which it is made from: name another file")


@contextmanager
def new_trace(out: Path, header: Header) -> Iterator[TraceOutput]:
    """Write a trace that appears at ``out`` when the block ends. The block must close it.

    If an exception ends the block, existing files are untouched. Raises StorageError.
    """
    with whole(payload_path(out), out) as folder, TraceOutput(folder / out.name, header) as written:
        yield written


def derived(header: Header, **changes: object) -> Header:
    """Return a copy of a header with a new id and other changes."""
    return replace(header, id=uuid.uuid4().hex, **changes)  # type: ignore[arg-type]
