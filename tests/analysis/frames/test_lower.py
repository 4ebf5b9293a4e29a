"""What the driver did to its image file, as frames."""

from datetime import timedelta
from pathlib import Path

import pytest

import analysis
from tests.kit.powercuts import FLUSH, KIB, serial
from tracer.below.events import Done, Event, Sent
from tracer.below.op import LowerKind, LowerOp
from tracer.below.stream import LowerHeader, write_lower
from tracer.errors import TraceError
from tracer.op import Kind
from tracer.trace.file import Trace

K = LowerKind

EVENTS: list[Event] = [
    LowerOp(0, K.WRITE, 0, 512, digest=b"a" * 16),
    Sent(0, 1000),
    LowerOp(1, K.WRITE, 4096, 8192, digest=b"b" * 16, time=1000),
    LowerOp(2, K.ZERO, 65536, 4096),
    Sent(1, 2000),
    LowerOp(3, K.FLUSH, 0, 0),
    Done(0, 3000, 0),
    LowerOp(4, K.FLUSH, 0, 0, error=5),
    Done(1, 4000, 5),
    LowerOp(5, K.TRUNCATE, 0, 1 << 20),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return serial(tmp_path / "t.trace", [(Kind.WRITE, 0, 4 * KIB, 0), FLUSH])


def write(path: Path, trace_id: str | None = None) -> None:
    with Trace(path) as trace:
        header = LowerHeader(trace_id or trace.header.id, 512)
    write_lower(path.with_suffix(".lower"), header, EVENTS)


def test_each_lower_op_is_a_row(path: Path) -> None:
    write(path)
    with analysis.open(path) as trace:
        below = trace.lower
    assert below["number"].to_list() == list(range(6))
    assert below["kind"].to_list() == ["write", "write", "zero", "flush", "flush", "truncate"]
    assert below["in_flight"].to_list() == [[], [0], [0], [0, 1], [1], []]
    assert below["cause"].to_list() == [None, 0, 0, None, 1, None]
    assert below["error"].to_list() == [0, 0, 0, 0, 5, 0]
    assert below["time"].to_list() == [None, timedelta(microseconds=1), *[None] * 4]
    us = [None if one is None else one // timedelta(microseconds=1) for one in below["after"]]
    assert us == [None, 1, 1, 2, 3, 4]
    us = [None if one is None else one // timedelta(microseconds=1) for one in below["before"]]
    assert us == [1, 2, 2, 3, 4, None]


def test_the_write_amplification(path: Path) -> None:
    write(path)
    with analysis.open(path) as trace:
        (row,) = trace.amplification().to_dicts()
    assert row == {
        "guest_bytes": 4096, "lower_bytes": 512 + 8192 + 4096, "lower_data_bytes": 512 + 8192,
        "amplification": (512 + 8192) / 4096, "lower_flushes": 2,
    }  # fmt: skip


def test_what_an_op_of_the_guest_caused(path: Path) -> None:
    write(path)
    with analysis.open(path) as trace:
        rows = trace.caused().to_dicts()
    assert rows == [
        {"seq": 0, "lower_ops": 2, "lower_bytes": 12288, "lower_flushes": 0},
        {"seq": 1, "lower_ops": 1, "lower_bytes": 0, "lower_flushes": 1},
    ]


def test_the_lower_ops_of_another_trace(path: Path) -> None:
    write(path, "other")
    with analysis.open(path) as trace, pytest.raises(TraceError, match="another trace"):
        _ = trace.lower


def test_there_are_no_lower_ops(path: Path) -> None:
    with analysis.open(path) as trace, pytest.raises(TraceError, match=r"t\.lower"):
        _ = trace.lower
