"""``trace checkout``: make an image of the disk as it should have been at a moment of a trace."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from tracer.disk.file import FileDevice
from tracer.disk.raw import make_raw
from tracer.errors import UsageError
from tracer.files import check_new, replaced, whole
from tracer.op import Kind, Leaves, changing_kinds, effect
from tracer.progress import bar
from tracer.rework.open_ranges import open_ranges
from tracer.trace.data import TraceWithData
from tracer.trace.effects import changes
from tracer.trace.marks import last_op, resolve_upto
from tracer.trace.order import with_completion_index
from tracer.trace.payloads import payload_path


@dataclass(slots=True)
class Checkout:
    """The image that was made. ``size`` is the disk's size, ``allocated`` is the space that the
    image takes, both in bytes."""

    trace: str
    image: str
    before: int
    """The image has the ops with a lower seq than this."""
    size: int
    payloads: str
    """``full``, or ``hash``: the image then has stand-ins, made from the digests, in place of the
    data."""
    allocated: int = 0
    applied: int = 0
    """Ops that changed the image."""
    failed: int = 0
    """Ops that would have changed it, but failed on the reference when recorded."""
    open: list[tuple[int, int]] = field(default_factory=list)
    """The bytes ``[start, end)`` that may hold another value than in the image: ops changed them in
    flight together, and nothing in the trace settles them."""
    schema: int = 1


def checkout(trace: Path, image: Path, at: str | None = None, *, force: bool = False) -> Checkout:
    """Make a sparse raw image of the disk after the op ``at``, at the mark ``at`` (see
    tracer/trace/marks.py), or after the last op.

    The image appears whole or not at all. Raises UsageError if it exists and ``force`` is not
    given, TraceError if the trace or a payload cannot be read, StorageError if the image cannot be
    written.
    """
    if replaced((image,), (trace, payload_path(trace))):
        raise UsageError(f"{image} cannot be both the image and the trace or its payloads")
    check_new(image, force)
    with TraceWithData(trace) as source:
        header = source.trace.header
        before = resolve_upto(source.trace, at) if at is not None else last_op(source.trace) + 1
        made = Checkout(str(trace), str(image), before, header.size, header.payloads)
        with whole(image) as folder:
            partial = folder / image.name
            make_raw(partial, made.size)
            _apply(source, partial, made)
        made.open = list(open_ranges(source.trace, before))
    return made


def _apply(source: TraceWithData, image: Path, made: Checkout) -> None:
    """Apply the ops to an image as the recording applied them to the reference. Raises OSError."""
    trace = source.trace
    changing = changing_kinds(trace.header.trim)
    with (
        FileDevice(image, durable=False) as device,
        bar("checking out", made.before, "ops") as progress,
    ):
        numbered = with_completion_index(trace.ops(), trace.recorded)
        for _, op, start, end in changes(numbered, trace.settles(), made.before):
            progress(1)
            if op.kind in changing and op.reference_status:
                made.failed += 1
            leaves = effect(op, trace.header.trim).leaves
            if leaves is Leaves.OLD:
                continue
            made.applied += 1
            is_data = leaves is Leaves.DATA
            # every op that leaves zeroes makes a hole, so that the image stays sparse
            kind = Kind.WRITE if is_data else Kind.TRIM
            data = source.data(op) if is_data else None
            if data is not None:
                data = memoryview(data)[start - op.offset : end - op.offset]
            error, _, _ = device.execute(kind, 0, start, end - start, data)
            if error:
                raise OSError(error, os.strerror(error))
    # the device has freed the blocks of zeroes by now; the unit of st_blocks is always 512
    made.allocated = image.stat().st_blocks * 512
