"""Digests of payloads, and stand-in bytes for a payload that the trace has only a digest of."""

from blake3 import blake3

from tracer.op import ZERO_DIGEST, Buffer

NAME = "blake3-128"
"""The algorithm's name in a trace's header: the first 128 bits of BLAKE3."""

_ZEROES = bytes(1 << 16)


def is_zero(data: Buffer) -> bool:
    """Whether all bytes are zero. Empty data counts as zero."""
    if not data or data[0] or data[-1]:
        return not data
    step = len(_ZEROES)
    if len(data) <= step:
        return data == _ZEROES[: len(data)]
    view = memoryview(data)
    return all(_ZEROES.startswith(bytes(view[at : at + step])) for at in range(0, len(data), step))


def digest(data: bytes | bytearray) -> bytes:
    """Return the 16-byte digest: ZERO_DIGEST for zeroes, otherwise BLAKE3 cut to 128 bits."""
    return ZERO_DIGEST if is_zero(data) else blake3(data).digest(16)


def stand_in(seed: bytes, length: int) -> Buffer:
    """Return deterministic bytes to use when a payload was not kept.

    Equal digests and lengths give equal bytes, and ZERO_DIGEST gives zeroes. The bytes are BLAKE3's
    extendable output for the digest.
    """
    return bytes(length) if seed == ZERO_DIGEST else blake3(seed).digest(length)
