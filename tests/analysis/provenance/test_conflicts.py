"""Damage where ops conflicted in flight: the op that won over a later one is the one whose bytes
should be there."""

import pytest

from analysis.provenance import explain
from tests.analysis.provenance.history import KIB, Make, only
from tests.kit.damage import Request, differences
from tracer.op import Kind

OVERLAP = slice(48 * KIB, 64 * KIB)

BOTH: list[Request] = [
    (Kind.WRITE, 0, 128 * KIB),  # 0
    (Kind.FLUSH, 0, b""),  # 1
    (Kind.WRITE, 0, 64 * KIB),  # 2: in flight with 3, and won where the two overlap
    (Kind.WRITE, 48 * KIB, 64 * KIB),  # 3
    (Kind.FLUSH, 0, b""),  # 4
]


@pytest.mark.parametrize("payloads", ["full", "hash"])
@pytest.mark.parametrize(
    ("held", "kind", "source"), [(3, "lost-write", 3), (0, "stale", 0), (None, "foreign", None)]
)
def test_the_winner_is_whose_bytes_should_be_there(
    make: Make, payloads: str, held: int | None, kind: str, source: int | None
) -> None:
    disk = make(BOTH, payloads=payloads)
    good = disk.after()
    good[OVERLAP] = disk.data(2)[OVERLAP]
    bad = bytearray(good)
    bad[OVERLAP] = (
        bytes([7, 1, 255, 0] * (4 * KIB))
        if held is None
        else disk.data(held)[OVERLAP]
        if held == 0
        else disk.data(held)[: 16 * KIB]
    )
    found = explain(disk.source, len(disk.ops), None, differences(good, bad))
    one = only(found, kind, 96, 32, source)
    assert one.writer is not None
    assert (one.writer.seq, one.writer.at) == (2, 48 * KIB)


def test_what_the_order_tells_stays(make: Make) -> None:
    disk = make(BOTH)
    bad = disk.after()
    bad[OVERLAP] = disk.data(2)[OVERLAP]
    one = only(disk.explain(bad), "torn", 96, 32, 3)
    assert one.writer is not None
    assert one.writer.seq == 3


def test_a_zero_wins_over_a_write(make: Make) -> None:
    requests = [*BOTH]
    requests[2] = (Kind.ZERO, 0, bytes(64 * KIB))
    disk = make(requests)
    good = disk.after()
    good[OVERLAP] = bytes(16 * KIB)
    bad = bytearray(good)
    bad[OVERLAP] = disk.data(3)[: 16 * KIB]
    one = only(explain(disk.source, 5, None, differences(good, bad)), "lost-write", 96, 32, 3)
    assert one.writer is not None
    assert one.writer.seq == 2
