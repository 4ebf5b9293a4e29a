"""Translate an op into commands that a server offers, as a guest's kernel would.

A recorder offers the guest exactly what the driver offers, so it translates nothing. A replay may
use a driver that offers less than the driver with which the trace was recorded.
"""

from tracer.errors import Undecidable
from tracer.nbd.protocol import NEEDED_FLAG, Export, TransmissionFlag
from tracer.op import MUTATING, Buffer, Flag, Kind

Part = tuple[int, int, int, int, Buffer | None]
"""A command: kind, flags, offset, length, data."""

_ZEROES = bytes(1 << 20)
"""Written, a MiB at a time, if the server does not offer write zeroes."""


def lower(
    export: Export, kind: int, flags: int, offset: int, length: int, data: Buffer | None
) -> list[Part]:
    """Return the commands that do the op, in order.

    There are none if the server does not offer the command and nothing needs to be done instead: a
    trim and a cache are advice, and without flush support there is nothing to flush. Raises
    Undecidable if the export is read-only or the op is not a multiple of its block size.
    """
    if export.flags & TransmissionFlag.READ_ONLY and kind in MUTATING:
        raise Undecidable(
            "the driver serves its image read-only: it cannot take this trace's writes"
        )
    if offset % export.sizes.minimum or length % export.sizes.minimum:
        raise Undecidable(
            f"an op of {length} bytes at byte {offset} is not a multiple of the driver's "
            f"block size, {export.sizes.minimum} bytes"
        )
    if kind == Kind.START:
        kind = Kind.WRITE
    if not export.flags & TransmissionFlag.SEND_FAST_ZERO:
        flags &= ~Flag.FAST_ZERO
    needed = NEEDED_FLAG.get(kind)
    if needed is not None and not export.flags & needed:
        if kind != Kind.ZERO:
            return []
        kind, flags = Kind.WRITE, flags & Flag.FUA
        step = min(len(_ZEROES), export.sizes.maximum)
    else:
        step = export.sizes.maximum if kind in (Kind.READ, Kind.WRITE) else length
    flush_after = False
    if flags & Flag.FUA and not export.flags & TransmissionFlag.SEND_FUA:
        flags &= ~Flag.FUA
        flush_after = bool(export.flags & TransmissionFlag.SEND_FLUSH)
    parts: list[Part] = []
    if length <= step:
        parts.append((kind, flags, offset, length, _piece(data, kind, 0, length)))
    else:
        for at in range(0, length, step):
            size = min(step, length - at)
            parts.append((kind, flags, offset + at, size, _piece(data, kind, at, size)))
    if flush_after:
        parts.append((Kind.FLUSH, 0, 0, 0, None))
    return parts


def _piece(data: Buffer | None, kind: int, at: int, size: int) -> Buffer | None:
    if kind != Kind.WRITE:
        return None
    if data is None:
        return _ZEROES[:size]
    return data if size == len(data) else memoryview(data)[at : at + size]
