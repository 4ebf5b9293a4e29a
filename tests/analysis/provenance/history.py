"""A disk with a known history, and findings about it."""

import json
from collections.abc import Callable

from tests.kit.damage import Disk, Request
from tracer.op import Kind
from tracer.verdict import Finding, to_json

KIB = 1024


SIZE = 512 * KIB


HISTORY: list[Request] = [
    (Kind.START, 256 * KIB, 64 * KIB),  # 0
    (Kind.WRITE, 0, 64 * KIB),  # 1
    (Kind.WRITE, 64 * KIB, 64 * KIB),  # 2
    (Kind.FLUSH, 0, b""),  # 3
    (Kind.WRITE, 16 * KIB, 16 * KIB),  # 4: over a part of 1
    (Kind.READ, 0, 64 * KIB),  # 5
    (Kind.WRITE, 16 * KIB, 16 * KIB),  # 6: over 4
    (Kind.ZERO, 96 * KIB, bytes(16 * KIB)),  # 7: over a part of 2
    (Kind.WRITE, 260 * KIB, 4 * KIB),  # 8: over a part of the start image
    (Kind.WRITE, 128 * KIB, 8 * KIB),  # 9: on what was never written
    (Kind.FLUSH, 0, b""),  # 10
]


HOT = slice(16 * KIB, 32 * KIB)


Make = Callable[..., Disk]


def only(findings: list[Finding], kind: str, sector: int, sectors: int, seq: int | None) -> Finding:
    """The one finding that there is, checked."""
    assert len(findings) == 1, [one.text for one in findings]
    one = findings[0]
    assert (one.kind, one.sector, one.sectors) == (kind, sector, sectors), one.text
    assert (None if one.source is None else one.source.seq) == seq, one.text
    assert f"({kind.replace('-', ' ')})" in one.text
    assert json.loads(json.dumps(to_json(one))) == to_json(one)
    return one
