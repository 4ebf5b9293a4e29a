"""Guest ops and lower ops on one clock, and the file NAME.lower."""

from pathlib import Path

import pytest

from tracer.below.clock import Clock, Moment
from tracer.below.events import Done, Event, Sent, joined
from tracer.below.op import LowerKind, LowerOp
from tracer.below.stream import (
    LowerHeader,
    Piece,
    Store,
    lower_path,
    pack,
    read_all,
    read_lower,
    write_lower,
)
from tracer.errors import TraceError

EVENTS: list[Event] = [
    Sent(0, 5),
    LowerOp(0, LowerKind.WRITE, 512, 1024, digest=b"d" * 16, payload=7, time=6),
    Sent(1, 6),
    LowerOp(1, LowerKind.FLUSH, 0, 0),
    LowerOp(2, LowerKind.TRUNCATE, 0, 1 << 20),
    LowerOp(3, LowerKind.ZERO, 1 << 40, 512, fua=True, error=5),
    Done(1, 9, 0),
    Done(0, 10, 28),
]


def write(number: int, start: int, at: int) -> LowerOp:
    return LowerOp(number, LowerKind.WRITE, start, 512, log_at=at, log_end=at + 1024)


def test_a_lower_op_lies_between_the_ops_that_saw_the_log_without_and_with_it() -> None:
    moments = [
        Moment(0, 1, 512, 4096),
        Moment(0, 2, 1536, 4096, error=0),
        Moment(1, 3, 1536, 4096),
        Moment(1, 4, 2560, 4096, error=5),
    ]
    ops = [write(0, 0, 512), write(1, 512, 1536), write(2, 1024, 2560)]
    found = list(joined(moments, ops, 4096))
    assert [(type(one).__name__, getattr(one, "seq", None)) for one in found] == [
        ("Sent", 0), ("LowerOp", None), ("Done", 0),
        ("Sent", 1), ("LowerOp", None), ("Done", 1), ("LowerOp", None),
    ]  # fmt: skip
    assert found[5] == Done(1, 4, 5)


def test_a_lower_op_that_was_half_logged_comes_later() -> None:
    found = list(joined([Moment(0, 1, 1000, 0)], [write(0, 0, 512)], 0))
    assert [type(one).__name__ for one in found] == ["Sent", "LowerOp"]


def test_a_file_that_grows_without_a_write_was_truncated() -> None:
    moments = [Moment(0, 1, 512, 4096), Moment(0, 2, 1536, 65536, error=0)]
    found = list(joined(moments, [write(0, 4096, 512)], 4096))
    assert found[1:3] == [LowerOp(0, LowerKind.TRUNCATE, 0, 65536), LowerOp(
        1, LowerKind.WRITE, 4096, 512, log_at=512, log_end=1536)]  # fmt: skip


def test_a_write_that_grows_the_file_is_no_truncation() -> None:
    moments = [Moment(0, 1, 512, 4096), Moment(0, 2, 1536, 4608, error=0)]
    kinds = [type(one).__name__ for one in joined(moments, [write(0, 4096, 512)], 4096)]
    assert kinds == ["Sent", "LowerOp", "Done"]


def test_the_clock_reads_both_sizes(tmp_path: Path) -> None:
    log, image = tmp_path / "log", tmp_path / "image"
    log.write_bytes(bytes(100))
    image.write_bytes(bytes(200))
    with Clock(log, image) as clock:
        clock.submitted(3)
        log.write_bytes(bytes(150))
        clock.completed(3, 5)
    sizes = [(one.seq, one.log, one.image, one.error) for one in clock.moments]
    assert sizes == [(3, 100, 200, None), (3, 150, 200, 5)]


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    path = lower_path(tmp_path / "one.trace")
    assert path == tmp_path / "one.lower"
    header = LowerHeader("ab", 4096, {"name": "qcow2"}, Store.OWN)
    write_lower(path, header, EVENTS)
    found, events = read_lower(path)
    assert (found, list(events)) == (header, EVENTS)
    pieces = [Piece(0, 512, b"e" * 16, 0), Piece(4096, 1 << 20, b"f" * 16, 512)]
    write_lower(path, header, [*pieces, *EVENTS])
    assert list(read_lower(path)[1]) == EVENTS
    assert list(read_all(path)[1]) == [*pieces, *EVENTS]


def test_any_prefix_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "one.lower"
    write_lower(path, LowerHeader("ab", 0), EVENTS)
    whole = path.read_bytes()
    ends = [len(whole) - sum(len(pack(event)) for event in EVENTS)]
    for event in EVENTS:
        ends.append(ends[-1] + len(pack(event)))
    for size in range(ends[0], len(whole) + 1):
        path.write_bytes(whole[:size])
        assert list(read_lower(path)[1]) == EVENTS[: sum(end <= size for end in ends[1:])]


@pytest.mark.parametrize(
    "bad", [b"\x01", b"\x93\x01\x01\xff", b"\x90", b"\xc1", b"\x94\x02\x01\x01\xc0"]
)
def test_an_event_that_is_not_valid(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "one.lower"
    write_lower(path, LowerHeader("ab", 0), EVENTS[:2])
    path.write_bytes(path.read_bytes() + bad)
    with pytest.raises(TraceError, match="event 2 is not valid"):
        list(read_lower(path)[1])


def test_another_file_is_no_stream_of_lower_ops(tmp_path: Path) -> None:
    path = tmp_path / "one.lower"
    path.write_bytes(b"\x81\xa6format\xacblkbox-trace")
    with pytest.raises(TraceError, match="not a stream of lower ops"):
        read_lower(path)
