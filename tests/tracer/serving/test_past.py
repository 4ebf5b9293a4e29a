"""The disk of the past and its scratch copy, against checkout and a plain list of bytes."""

import errno
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kit.data import pattern
from tests.kit.small_disk import SIZE, ops, ranges, write
from tracer.digest import digest
from tracer.disk.file import FileDevice
from tracer.op import SECTOR, Kind, Op
from tracer.rework.checkout import checkout
from tracer.serving.past import HOLE, Past
from tracer.serving.scratch import Scratch
from tracer.trace.data import TraceWithData

PROPERTY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@PROPERTY
@given(many=ops(), place=ranges(), data=st.data())
def test_the_past_is_what_checkout_makes(
    many: list[tuple[Op, bytes]], place: tuple[int, int], data: st.DataObject, tmp_path: Path
) -> None:
    trace = write(tmp_path / "some.trace", many)
    at = data.draw(st.integers(0, len(many) - 1)) if many else None
    image = tmp_path / "state.raw"
    made = checkout(trace, image, None if at is None else str(at), force=True)
    with TraceWithData(trace) as source:
        past = Past(source, made.before)
        offset, length = place
        wanted = image.read_bytes()
        assert past.read(offset, length) == wanted[offset : offset + length]
        at = 0
        for size, state in past.extents(0, SIZE):
            if state == HOLE:
                assert wanted[at : at + size] == bytes(size)
            at += size
        assert at == SIZE


@PROPERTY
@given(before=ops(), after=ops(), place=ranges())
def test_a_scratch_copy_takes_what_a_disk_takes(
    before: list[tuple[Op, bytes]],
    after: list[tuple[Op, bytes]],
    place: tuple[int, int],
    tmp_path: Path,
) -> None:
    trace = write(tmp_path / "some.trace", before)
    image = tmp_path / "state.raw"
    checkout(trace, image, force=True)
    with (
        TraceWithData(trace) as source,
        Scratch(Past(source, len(before))) as scratch,
        FileDevice(image, durable=False) as disk,
    ):
        for op, data in after:
            if op.kind != Kind.START:
                done = scratch.execute(op.kind, op.offset, op.length, data)
                assert done[0] == 0
                disk.execute(op.kind, 0, op.offset, op.length, data)
        assert scratch.execute(Kind.READ, 0, SIZE, None)[1] == disk.read(0, SIZE)
        offset, length = place
        error, _, extents = scratch.execute(Kind.BLOCK_STATUS, offset, length, None)
        assert error == 0
        assert sum(size for size, _ in extents) == length


def test_block_status_merges_what_several_ops_wrote(tmp_path: Path) -> None:
    many = [
        (Op(seq, int(Kind.WRITE), 0, seq * SECTOR, SECTOR, digest=digest(data)), data)
        for seq, data in ((seq, pattern(SECTOR, seq + 1)) for seq in range(3))
    ]
    with TraceWithData(write(tmp_path / "some.trace", many)) as source:
        extents = Past(source, 3).extents(SECTOR, SIZE - SECTOR)
    assert extents == [(2 * SECTOR, 0), (SIZE - 3 * SECTOR, HOLE)]


def test_a_damaged_payload_fails_its_reads_and_no_others(tmp_path: Path) -> None:
    good, bad = pattern(SECTOR, 1), pattern(SECTOR, 2)
    many = [
        (Op(0, int(Kind.WRITE), 0, 0, SECTOR, digest=digest(good)), good),
        (Op(1, int(Kind.WRITE), 0, SECTOR, SECTOR, digest=digest(bytes(reversed(bad)))), bad),
    ]
    with TraceWithData(write(tmp_path / "some.trace", many)) as source:
        past = Past(source, 2)
        assert past.execute(Kind.READ, SECTOR, SECTOR, None) == (errno.EIO, None, [])
        assert "op #1 is not what was written" in str(past.problem)
        assert past.execute(Kind.READ, 0, SECTOR, None)[1] == good
        with Scratch(past) as scratch:
            assert scratch.execute(Kind.READ, 0, 2 * SECTOR, None) == (errno.EIO, None, [])
            scratch.execute(Kind.WRITE, SECTOR, SECTOR, good)
            assert scratch.execute(Kind.READ, 0, 2 * SECTOR, None)[1] == good + good
