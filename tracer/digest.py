"""Digests of payloads, and the bytes that stand in for a payload of which only the digest is known."""

from blake3 import blake3

from tracer.op import ZERO_DIGEST, Buffer

NAME = "blake3-128"
"""How the trace's header names the algorithm: the first 128 bits of BLAKE3."""

_ZEROES = bytes(1 << 16)


def is_zero(data: bytes | bytearray) -> bool:
    """Whether all bytes are zero."""
    if not data or data[0] or data[-1]:
        return not data
    step = len(_ZEROES)
    if len(data) <= step:
        return data == _ZEROES[: len(data)]
    view = memoryview(data)
    return all(_ZEROES.startswith(bytes(view[at : at + step])) for at in range(0, len(data), step))


def digest(data: bytes | bytearray) -> bytes:
    """16 bytes: ZERO_DIGEST for zeroes, else BLAKE3 cut to 128 bits."""
    return ZERO_DIGEST if is_zero(data) else blake3(data).digest(16)


def stand_in(seed: bytes, length: int) -> Buffer:
    """The bytes that a digest stands for when the payload itself was not kept: the same for equal
    digests and lengths, zeroes for ZERO_DIGEST. (BLAKE3's extendable output, seeded with the digest.)
    """
    return bytes(length) if seed == ZERO_DIGEST else blake3(seed).digest(length)
