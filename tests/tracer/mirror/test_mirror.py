"""Mirror: both sides get every op, in one order."""

from pathlib import Path

import pytest

from tests.tracer.mirror.bench import SIZE, Bench, sectors
from tracer.disk.file import FileDevice
from tracer.op import SECTOR, Flag, Kind

# ---------------------------------------------------------------- one op at a time


def test_a_write_reaches_both_sides(bench: Bench) -> None:
    bench.run(Kind.WRITE, *sectors(2, 2))
    assert bench.reference_bytes() == bytes(bench.fake.data)
    assert bench.fake.data[1024:2048] == b"w" * 1024


def test_a_read_has_the_references_data(bench: Bench) -> None:
    bench.run(Kind.WRITE, *sectors(2))
    assert bench.run(Kind.READ, 1024, 512).data == b"w" * 512
    assert bench.differences == []


@pytest.mark.parametrize("kind", [Kind.READ, Kind.FLUSH, Kind.TRIM, Kind.CACHE, Kind.ZERO])
def test_every_kind_reaches_the_driver_with_its_range(bench: Bench, kind: Kind) -> None:
    bench.run(kind, 512, 1024)
    assert bench.fake.log == [("start", (kind, 512, 1024, b"")), ("end", (kind, 512, 1024, b""))]


def test_flags_reach_the_driver(bench: Bench) -> None:
    bench.submit(Kind.ZERO, 0, 512, None, Flag.FUA | Flag.NO_HOLE)
    bench.mirror.pump()
    assert bench.fake.pending[0][1] == Flag.FUA | Flag.NO_HOLE
    bench.settle()


def test_done_comes_once_both_sides_are_done(bench: Bench) -> None:
    bench.submit(Kind.WRITE, *sectors(0))
    bench.mirror.pump()
    assert bench.done == []
    assert len(bench.meanwhile) == 1
    assert bench.mirror.in_flight == 1
    bench.fake.finish()
    assert [flight.op.seq for flight in bench.done] == [0]
    assert bench.mirror.in_flight == 0


def test_both_sides_are_timed(bench: Bench) -> None:
    op = bench.run(Kind.READ, *sectors(0)[:2]).op
    assert op.test_ns > 0
    assert op.reference_ns > 0


# ---------------------------------------------------------------- order


def test_overlapping_changes_go_one_after_the_other(bench: Bench) -> None:
    bench.submit(Kind.WRITE, *sectors(0, 4, b"a"))
    bench.submit(Kind.WRITE, *sectors(3, 2, b"b"))
    bench.mirror.pump()
    assert len(bench.fake.pending) == 1
    bench.fake.finish()
    bench.mirror.pump()
    assert len(bench.fake.pending) == 1
    bench.settle()
    assert bench.reference_bytes()[3 * SECTOR : 5 * SECTOR] == b"b" * 1024


def test_overlapping_reads_are_in_flight_together(bench: Bench) -> None:
    bench.submit(Kind.READ, 0, 2048)
    bench.submit(Kind.READ, 512, 2048)
    bench.submit(Kind.BLOCK_STATUS, 0, SIZE)
    bench.mirror.pump()
    assert len(bench.fake.pending) == 3
    bench.settle()


@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.TRIM, Kind.ZERO])
def test_a_read_waits_for_a_change_and_the_other_way_round(bench: Bench, kind: Kind) -> None:
    data = b"w" * 512 if kind == Kind.WRITE else None
    for request in ((kind, 0, 512, data), (Kind.READ, 0, 512), (kind, 0, 512, data)):
        bench.submit(*request)  # type: ignore[arg-type]
    for _ in range(3):
        bench.mirror.pump()
        assert len(bench.fake.pending) == 1
        bench.fake.finish()


def test_neighbours_are_in_flight_together(bench: Bench) -> None:
    for at in range(4):
        bench.submit(Kind.WRITE, *sectors(at))
    bench.submit(Kind.FLUSH)
    bench.mirror.pump()
    assert len(bench.fake.pending) == 5
    bench.settle()


def test_what_has_been_in_flight_for_longest(bench: Bench) -> None:
    assert bench.mirror.oldest() is None
    for at in range(3):
        bench.submit(Kind.WRITE, *sectors(at))
    bench.mirror.pump()
    bench.fake.finish(0)
    oldest = bench.mirror.oldest()
    assert oldest is not None
    assert oldest.op.seq == 1
    bench.settle()


def test_a_test_side_in_process(image: Path, tmp_path: Path) -> None:
    """A FileDevice is done before submit returns; the same holds."""
    other = tmp_path / "test.raw"
    other.write_bytes(bytes(SIZE))
    bench = Bench(image)
    test = FileDevice(other)
    bench.mirror.test = test
    for kind, flags in (
        (Kind.WRITE, 0),
        (Kind.ZERO, Flag.FAST_ZERO),
        (Kind.READ, 0),
        (Kind.TRIM, 0),
    ):
        bench.submit(kind, 512, 1024, b"x" * 1024 if kind == Kind.WRITE else None, flags)
    bench.mirror.pump()
    test.close()
    bench.close()
    assert [flight.op.seq for flight in bench.done] == [0, 1, 2, 3]
    assert bench.differences == []
