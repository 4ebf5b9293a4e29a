"""A zstd frame that holds its content as it is (RFC 8878, 3.1.1): it costs no time to make, and any
zstd library reads it."""

import struct

from tracer.op import Buffer

MAGIC = 0xFD2FB528

DESCRIPTOR = 0xA0
"""The frame header's descriptor: a content size of 4 bytes (0x80), a single segment (0x20: the
content is the window), no checksum, no dictionary."""

PIECE = 128 << 10
"""The most bytes in a block of a frame."""

LAST = 1
"""The bit of a block's header that marks the last block. The type in bits 1 and 2 is 0: raw."""

_HEADER = struct.Struct("<IBI")


def stored_frame(data: bytes | bytearray) -> tuple[list[Buffer], int]:
    """Return the frame in pieces, and its size. ``data``, up to 4 GiB - 1, is not copied."""
    view, end = memoryview(data), len(data)
    parts: list[Buffer] = [_HEADER.pack(MAGIC, DESCRIPTOR, end)]
    for start in range(0, max(end, 1), PIECE):
        piece = view[start : start + PIECE]
        last = LAST if start + PIECE >= end else 0
        parts += [(len(piece) << 3 | last).to_bytes(3, "little"), piece]
    return parts, sum(map(len, parts))
