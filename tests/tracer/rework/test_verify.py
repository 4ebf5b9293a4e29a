"""``trace verify``: what settles say is compared with what their ops wrote."""

from pathlib import Path

import pytest

from tests.kit.data import pattern
from tracer.digest import digest
from tracer.op import NO_PAYLOAD, NO_SEQ, ZERO_DIGEST, Kind, Op
from tracer.rework.verify import Verification, verify
from tracer.trace.header import Header
from tracer.trace.output import TraceOutput
from tracer.trace.records import End, Settle

DATA = pattern(4096)

WRITE, ZERO, READ, MISSING = 0, 1, 2, 9


def verified(
    path: Path, settle: Settle, payloads: str = "full", *, lost: bool = False
) -> Verification:
    """What verify says of a trace of a write, a zero and a read that decided."""
    with TraceOutput(path, Header(1 << 20, payloads)) as output:
        write = Op(WRITE, int(Kind.WRITE), 0, 0, 4096, 0, 5)
        output.store(write, DATA)
        if lost:
            write.payload = NO_PAYLOAD
        output.op(write)
        output.op(Op(ZERO, int(Kind.ZERO), 0, 2048, 4096, 0, 6))
        output.op(Op(READ, int(Kind.READ), 0, 0, 8192, 7, 8))
        output.settle(settle)
        output.close(End(3, 0, 9, "clean"))
    return verify(path)


@pytest.mark.parametrize(
    ("winner", "offset", "length", "held"),
    [
        (WRITE, 0, 4096, digest(DATA)),
        (WRITE, 2048, 1000, digest(DATA[2048:3048])),
        (ZERO, 2048, 2048, ZERO_DIGEST),
        (NO_SEQ, 0, 4096, b"x" * 16),
        (MISSING, 0, 4096, b"x" * 16),
    ],
)
@pytest.mark.parametrize("payloads", ["full", "hash"])
def test_a_settle_that_may_be_right(
    path: Path, winner: int, offset: int, length: int, held: bytes, payloads: str
) -> None:
    found = verified(path, Settle(READ, offset, length, winner, 8, held), payloads)
    assert (found.problems, found.settles, found.unlike, found.ok) == ([], 1, 0, True)


@pytest.mark.parametrize(
    ("winner", "offset", "length", "held", "why"),
    [
        (WRITE, 0, 4096, b"x" * 16, "these bytes are not what it wrote"),
        (WRITE, 2048, 1000, digest(DATA[:1000]), "these bytes are not what it wrote"),
        (ZERO, 2048, 2048, digest(DATA[:2048]), "these bytes are not what it wrote"),
        (WRITE, 4095, 2, b"x" * 16, "that did not come to all of these bytes"),
        (ZERO, 2047, 2, ZERO_DIGEST, "that did not come to all of these bytes"),
        (READ, 0, 512, digest(DATA[:512]), "that changes nothing"),
    ],
)
def test_a_settle_that_is_wrong(
    path: Path, winner: int, offset: int, length: int, held: bytes, why: str
) -> None:
    found = verified(path, Settle(READ, offset, length, winner, 8, held))
    assert found.problems == [
        f"1 settle not as the trace's ops; the first: op #{READ} decided about op #{winner}: {why}"
    ]
    assert (found.settles, found.unlike, found.ok) == (1, 1, False)


@pytest.mark.parametrize(("payloads", "lost"), [("hash", False), ("full", True)])
def test_a_part_of_bytes_that_are_not_there_cannot_be_checked(
    path: Path, payloads: str, lost: bool
) -> None:
    found = verified(path, Settle(READ, 0, 100, WRITE, 8, b"x" * 16), payloads, lost=lost)
    assert (found.settles, found.unlike) == (1, 0)
