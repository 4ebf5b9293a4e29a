"""Ops on the reference alone."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracer.disk.device import Data
from tracer.disk.file import FileDevice
from tracer.mirror.alone import Alone
from tracer.mirror.flight import Flight
from tracer.op import Buffer, Extents, Kind, Op, TrimRule

SIZE = 1 << 20


class Failing(FileDevice):
    """A file that has no room."""

    def execute(
        self, kind: int, flags: int, offset: int, length: int, data: Buffer | None
    ) -> tuple[int, Data | None, Extents]:
        return errno.ENOSPC, None, []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"o" * SIZE)
    return path


@pytest.fixture
def reference(path: Path) -> Iterator[FileDevice]:
    with FileDevice(path) as device:
        yield device


def run(reference: FileDevice, *flights: Flight, rule: TrimRule = TrimRule.ANY) -> list[str]:
    """Do ops; return what was called, in order."""
    calls: list[str] = []
    alone = Alone(
        reference,
        rule,
        lambda flight: calls.append(f"done {flight.op.seq}"),
        lambda flight: calls.append(f"referred {flight.op.seq}"),
    )
    for flight in flights:
        alone.submit(flight)
    assert (alone.in_flight, calls) == (len(flights), [])
    alone.pump()
    assert alone.in_flight == 0
    return calls


def test_ops_are_done_in_their_order_even_if_they_conflict(reference: FileDevice) -> None:
    read = Flight(Op(2, int(Kind.READ), 0, 0, 8))
    calls = run(
        reference,
        Flight(Op(0, int(Kind.WRITE), 0, 0, 4), b"aaaa"),
        Flight(Op(1, int(Kind.WRITE), 0, 2, 4), b"bbbb"),
        read,
        Flight(Op(3, int(Kind.WRITE), 0, 0, 8), b"c" * 8),
    )
    assert calls == [f"{what} {seq}" for seq in range(4) for what in ("referred", "done")]
    assert read.data == b"aabbbboo"
    assert reference.read(0, 8) == b"c" * 8
    assert read.differences == []


def test_the_guest_gets_the_references_block_status(reference: FileDevice) -> None:
    reference.execute(Kind.TRIM, 0, 0, SIZE // 2, None)
    status = Flight(Op(0, int(Kind.BLOCK_STATUS), 0, 0, SIZE))
    run(reference, status)
    assert status.extents == [(SIZE // 2, 3), (SIZE // 2, 0)]


@pytest.mark.parametrize(("rule", "left"), [(TrimRule.ANY, 0), (TrimRule.OLD_OR_ZERO, ord("o"))])
def test_a_trim_follows_the_rule(reference: FileDevice, rule: TrimRule, left: int) -> None:
    run(reference, Flight(Op(0, int(Kind.TRIM), 0, 0, 4096)), rule=rule)
    assert reference.read(0, 4096) == bytes([left]) * 4096


def test_both_statuses_are_the_references(path: Path) -> None:
    flight = Flight(Op(0, int(Kind.WRITE), 0, 0, 4), b"aaaa")
    with Failing(path) as reference:
        run(reference, flight)
    assert flight.op.reference_status == flight.op.test_status == errno.ENOSPC
