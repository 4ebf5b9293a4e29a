"""What a server says about its export, and which of it we take.

``export_of`` is strict where the specification leaves no choice, and adjusts the rest ("Size
constraints").
"""

from tracer.errors import NbdError
from tracer.nbd import protocol as p

MAX_MINIMUM = 65536
"""The largest minimum block size, in bytes, that the protocol allows."""

LEAST = 512
"""Bytes that a request must be allowed to have: a preferred block size is at least that, and a
maximum no smaller. With less, reading a disk would take for ever."""


def export_of(infos: list[bytes], name: str) -> tuple[p.Export, str]:
    """Return the export that a server's replies of type INFO describe, and what was adjusted: a
    line, or nothing.

    Raises NbdError if the size is missing or the block sizes are impossible.
    """
    size, flags, description = None, 0, ""
    sizes: tuple[int, int, int] | None = None
    for body in infos:
        kind = p.U16.unpack_from(body)[0] if len(body) >= 2 else None
        if kind == p.Info.EXPORT and len(body) == p.INFO_EXPORT.size:
            _, size, flags = p.INFO_EXPORT.unpack(body)
        elif kind == p.Info.BLOCK_SIZE and len(body) == p.INFO_BLOCK_SIZE.size:
            sizes = p.INFO_BLOCK_SIZE.unpack(body)[1:]
        elif kind == p.Info.DESCRIPTION:
            # cut to what a string may have; a character that is cut in two goes
            description = body[2 : 2 + p.MAX_STRING].decode(errors="ignore")
    if size is None:
        raise NbdError("server did not send the export's size")
    if sizes is None:
        return p.Export(size, flags, p.BlockSizes(), name, description), ""
    taken, note = _block_sizes(*sizes, size)
    return p.Export(size, flags, taken, name, description), note


def _block_sizes(minimum: int, preferred: int, maximum: int, size: int) -> tuple[p.BlockSizes, str]:
    """Return the block sizes to use with an export of ``size`` bytes, and what was adjusted."""
    if not _is_power(minimum) or minimum > MAX_MINIMUM:
        raise NbdError(
            f"server asks for a minimum block size of {minimum} bytes, which is no power of two up "
            f"to {MAX_MINIMUM}"
        )
    least = max(minimum, min(LEAST, size))
    if maximum < least:
        raise NbdError(f"server takes {maximum} bytes at most in a request, and must take {least}")
    most = min(maximum, p.MAX_PAYLOAD) // minimum * minimum
    notes = []
    if maximum % minimum and maximum != p.NO_MAXIMUM:
        notes.append(f"a maximum of {maximum}, no multiple of its minimum: using {most}")
    if not _is_power(preferred) or preferred < max(minimum, min(LEAST, most)):
        usual = max(minimum, min(p.BlockSizes().preferred, 1 << most.bit_length() - 1))
        notes.append(f"a preferred size of {preferred}: using {usual}")
        preferred = usual
    note = f"the server has odd block sizes: {'; '.join(notes)}" if notes else ""
    return p.BlockSizes(minimum, preferred, most), note


def _is_power(number: int) -> bool:
    """Whether a number is a power of two."""
    return number > 0 and not number & (number - 1)
