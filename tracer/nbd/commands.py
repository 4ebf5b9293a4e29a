"""Say an op in the commands that a server offers, as a guest's own kernel would.

While recording, the guest is offered just what the driver offers, and nothing here applies. A replay
may meet a driver that offers less than the one the trace was recorded on.
"""

from tracer.errors import Undecidable
from tracer.nbd.protocol import NEEDED_FLAG, Export, TransmissionFlag
from tracer.op import MUTATING, Buffer, Flag, Kind

Part = tuple[int, int, int, int, Buffer | None]
"""A command: kind, flags, offset, length, data."""

_ZEROES = bytes(1 << 20)
"""Written in place of a write zeroes that the server does not offer, a MiB at a time."""


def lower(
    export: Export, kind: int, flags: int, offset: int, length: int, data: Buffer | None
) -> list[Part]:
    """The commands that do what the op asks for, in order; none where it is only advice.

    Raises Undecidable where the server cannot do it at all.
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
        if kind != Kind.ZERO:  # trim and cache are advice; no flush means nothing to flush
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
