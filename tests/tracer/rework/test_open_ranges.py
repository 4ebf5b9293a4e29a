"""What conflicting ops leave open, from a trace alone."""

from pathlib import Path

import pytest

from tests.kit.traces import write_trace
from tracer.op import Kind, Op
from tracer.rework.open_ranges import open_ranges
from tracer.trace.file import Trace
from tracer.trace.records import Settle

W, T, Z = int(Kind.WRITE), int(Kind.TRIM), int(Kind.ZERO)


def op(seq: int, kind: int, start: int, end: int, submitted: int, completed: int) -> Op:
    return Op(seq, kind, 0, start, end - start, submitted, completed, digest=bytes([seq + 1]) * 16)


def left_open(path: Path, *records: Op | Settle) -> list[tuple[int, int]]:
    with Trace(write_trace(path / "t.trace", records)) as trace:
        return list(open_ranges(trace, 100))


@pytest.mark.parametrize(("kind", "other"), [(W, T), (T, W), (W, W), (Z, T), (W, Z)])
def test_two_changes_in_flight_leave_what_they_share_open(
    tmp_path: Path, kind: int, other: int
) -> None:
    both = op(0, kind, 0, 8192, 1, 10), op(1, other, 4096, 12288, 2, 11)
    assert left_open(tmp_path, *both) == [(4096, 8192)]
    settled = Settle(2, 4096, 4096, 1, 13, bytes(16))
    read = Op(2, int(Kind.READ), 0, 4096, 4096, 12, 12)
    assert left_open(tmp_path, *both, read, settled) == []
    # a later change decides, where nothing is in flight with it
    assert left_open(tmp_path, *both, op(2, W, 4096, 6144, 20, 21)) == [(6144, 8192)]


def test_changes_one_after_the_other_leave_nothing_open(tmp_path: Path) -> None:
    assert left_open(tmp_path, op(0, W, 0, 4096, 1, 2), op(1, T, 0, 4096, 3, 4)) == []
    assert left_open(tmp_path, op(0, T, 0, 4096, 1, 2), op(1, T, 0, 4096, 1, 4)) == []
