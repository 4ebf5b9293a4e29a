"""What is written to disks."""

MIB = 1 << 20


def pattern(length: int, seed: int = 0) -> bytes:
    """Bytes of which every sector differs from its neighbours."""
    ramp = bytes(at % 251 + 1 for at in range(251 + 512))
    starts = ((at // 512 * 7 + at + seed * 31 + 1) % 251 for at in range(0, length, 512))
    return b"".join(ramp[start : start + 512] for start in starts)[:length]
