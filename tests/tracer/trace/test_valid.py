"""What is no valid trace is refused in one line that says where and why, and both readers, the one
of records and the one of arrays, say the same."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

import analysis
from tests.tracer.trace.samples import OP, SIZE, SOME, read, rewritten, write
from tracer.errors import TraceError
from tracer.op import NO_SEQ, NO_TIME, Fault, Kind, Op
from tracer.trace import valid
from tracer.trace.file import Trace
from tracer.trace.header import MAX_DEPTH, MAX_ID, Header
from tracer.trace.records import (
    RECORD_SIZE,
    End,
    Mark,
    Mismatch,
    Restart,
    Settle,
    pack_op,
)


def why_not(path: Path, at: int) -> str:
    """Read it all with both readers; return why record ``at`` is refused."""
    with pytest.raises(TraceError) as caught:
        read(path)
    message = str(caught.value)
    with pytest.raises(TraceError) as again:
        _ = analysis.open(path).count
    assert str(again.value) == message
    with Trace(path) as trace:
        byte = trace.records_at + at * RECORD_SIZE
    place, _, why = message.partition(" is not valid: ")
    assert place == f"{path}: record {at}, at byte {byte},"
    assert why.isprintable()
    return why


RESTARTED_BEFORE = "the driver was restarted before op #{}, which is recorded before"

SETTLE = Settle(0, 0, 512, 0, 0, bytes(16))


def op(seq: int, submitted: int = 0, completed: int = NO_TIME) -> Op:
    return Op(seq, int(Kind.WRITE), 0, 0, 512, submitted, completed)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"kind": 2}, "op #5 is of no known kind (2)"),
        ({"flags": 32}, "op #5 has flags that its kind cannot have (0x20)"),
        ({"flags": 0x8001}, "op #5 has flags that its kind cannot have (0x8000)"),
        ({"flags": 2}, "op #5 has flags that its kind cannot have (0x2)"),
        ({"kind": 6, "flags": 4}, "op #5 has flags that its kind cannot have (0x4)"),
        ({"kind": 3, "offset": 0}, "op #5 is a flush of a part of the disk"),
        ({"kind": 3, "length": 0}, "op #5 is a flush of a part of the disk"),
        ({"length": 0}, "op #5 has no bytes"),
        ({"length": (32 << 20) + 1}, "op #5 has 33554433 bytes: its kind has at most 33554432"),
        ({"kind": 4, "length": 1 << 63}, f"op #5 has {1 << 63} bytes: its kind has at most"),
        ({"offset": SIZE}, f"op #5 has 512 bytes at byte {SIZE}: beyond the disk, which has"),
        ({"seq": 1 << 63}, f"op #{1 << 63} has {1 << 63} as seq, which is more than 63 bits"),
        ({"submitted": (1 << 64) - 1}, f"has {(1 << 64) - 1} as submitted, which is more than 63"),
        ({"completed": (1 << 64) - 2}, f"has {(1 << 64) - 2} as completed, which is more than 63"),
        ({"test_ns": 1 << 63}, f"has {1 << 63} as test_ns, which is more than 63 bits"),
        ({"completed": 9}, "op #5 completed before it was submitted"),
    ],
)
def test_an_op_that_is_not_valid(path: Path, changes: dict[str, int], why: str) -> None:
    write(path, [op(0, 0, 0), replace(OP, **changes)])
    assert why in why_not(path, 1)


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (Mark(1 << 63, 0, "m"), "a mark has 9223372036854775808 as seq, which is more than 63"),
        (Mark(0, 1 << 63, "m"), "a mark has 9223372036854775808 as time, which is more than 63"),
        (Mismatch(0, 9, 0, 512, 0, 0, 0, 0, bytes(16)), "a mismatch is of no known kind (9)"),
        (
            Mismatch(0, Fault.DATA, SIZE, 1, 0, 0, 0, 0, bytes(16)),
            f"a mismatch has 1 bytes at byte {SIZE}: beyond the disk",
        ),
        (
            Mismatch(0, Fault.DATA, 0, 1, 0, 0, 1 << 63, 0, bytes(16)),
            "a mismatch has 9223372036854775808 as time",
        ),
        (End(1 << 63, 0, 0, "clean"), "an end record has 9223372036854775808 as ops"),
        (replace(SETTLE, seq=1 << 63), f"a settle has {1 << 63} as seq, which is more than 63"),
        (replace(SETTLE, time=1 << 63), f"a settle has {1 << 63} as time, which is more than 63"),
        (replace(SETTLE, winner=1 << 63), f"a settle has {1 << 63} as its winner"),
        (replace(SETTLE, winner=NO_SEQ - 1), f"a settle has {NO_SEQ - 1} as its winner"),
        (replace(SETTLE, length=0), "a settle has no bytes"),
        (
            replace(SETTLE, offset=SIZE - 511),
            f"a settle has 512 bytes at byte {SIZE - 511}: beyond",
        ),
        (Restart(1 << 63, 0, "phase"), f"a restart has {1 << 63} as seq, which is more than 63"),
        (Restart(1, 1 << 63, "phase"), f"a restart has {1 << 63} as time, which is more than 63"),
    ],
)
def test_another_record_that_is_not_valid(path: Path, record: Any, why: str) -> None:
    write(path, [op(0), record])
    assert why in why_not(path, 1)


@pytest.mark.parametrize(
    ("place", "byte", "why"),
    [
        (1, 200, "there is no kind of record with the number 200"),
        (0, 0x90, "it is not laid out as a mark"),
        (11, 0, "it is not laid out as a mark"),
        (30, 0xFF, "a mark has a text that is not UTF-8"),
    ],
)
def test_bytes_that_are_no_record(path: Path, place: int, byte: int, why: str) -> None:
    content = bytearray(write(path, [op(0), Mark(1, 0, "a mark's name")]).read_bytes())
    content[len(content) - RECORD_SIZE + place] = byte
    path.write_bytes(content)
    assert why_not(path, 1) == why


@pytest.mark.parametrize(
    ("records", "bad", "why"),
    [
        ([op(0), op(0)], 1, "op #0 has two records"),
        ([op(0), op(2), op(1), op(2)], 3, "op #2 has two records"),
        ([op(0, 5, 9), op(1, 5, 8)], 1, "op #1 completed before the op in the record before it"),
        ([op(0), op(1, 5, 8)], 1, "op #1 completed before the op in the record before it"),
        ([op(1, 7), op(0, 8)], 1, "op #0 was submitted after op #1"),
        ([op(0, 7), op(3, 6)], 1, "op #3 was submitted before op #0"),
        ([op(0), op(9, 7), op(3, 9), op(5, 8)], 2, "op #3 was submitted after op #9"),
        ([End(0, 0, 0, "clean"), op(0)], 1, "it comes after the end record"),
        ([op(0), End(1, 0, 0, "clean"), End(1, 0, 0, "clean")], 2, "it comes after the end record"),
        ([SETTLE, op(0)], 0, "op #0, which decided it, has no record before it"),
        (
            [op(0), op(2), replace(SETTLE, seq=1)],
            2,
            "op #1, which decided it, has no record before it",
        ),
        ([op(0), Restart(0, 0, "")], 1, RESTARTED_BEFORE.format(0)),
        ([op(3), op(1), Restart(3, 0, "")], 2, RESTARTED_BEFORE.format(3)),
        ([op(0), Restart(2, 0, ""), op(1)], 2, "op #1 is recorded after the restart before op #2"),
        (
            [op(0), Restart(3, 0, ""), Restart(1, 0, ""), op(3), op(2)],
            4,
            "op #2 is recorded after the restart before op #3",
        ),
        (
            [op(0), op(valid.MAX_MISSING + 2)],
            1,
            f"more than 1,048,576 ops before op #{valid.MAX_MISSING + 2} have no record",
        ),
    ],
)
def test_records_that_are_not_valid_together(
    path: Path, records: list[Any], bad: int, why: str
) -> None:
    whole = b"".join(write(path, [record]).read_bytes()[-RECORD_SIZE:] for record in records)
    path.write_bytes(write(path, []).read_bytes() + whole)
    assert why_not(path, bad) == why


@pytest.mark.parametrize("block", [1, 2, 3])
@pytest.mark.parametrize(
    "records",
    [
        [op(0, 0, 0), op(1, 0, 0)],
        [op(1, 5), op(0, 5)],
        [op(9, 5), op(3, 4), op(4, 4), op(0)],
        [op(valid.MAX_MISSING)],
        [op(0, 5, 9), op(1, 9, 9), op(2, 0 + 9)],
        [op(1), op(0), SETTLE, op(2), replace(SETTLE, seq=1, winner=NO_SEQ), SETTLE],
        [Restart(0, 0, ""), op(1), op(0), Restart(2, 0, ""), Restart(2, 1, "é"), op(3), op(2)],
        [op(0), Restart(5, 0, ""), Restart(1, 0, ""), SETTLE, op(6), op(5), Restart(9, 0, "")],
    ],
)
def test_what_a_recorder_may_have_seen_is_valid(
    path: Path, monkeypatch: pytest.MonkeyPatch, records: list[Any], block: int
) -> None:
    monkeypatch.setattr("analysis.frames.records.BLOCK", block)
    write(path, records)
    assert read(path) == records
    ops = [record for record in records if isinstance(record, Op)]
    assert analysis.open(path).ops.select("seq").collect()["seq"].to_list() == sorted(
        op.seq for op in ops
    )


@rewritten
@given(
    st.lists(
        st.builds(op, st.integers(0, 5), st.integers(0, 3), st.integers(0, 4) | st.just(NO_TIME))
        | st.builds(lambda seq: replace(SETTLE, seq=seq), st.integers(0, 5))
        | st.builds(Restart, st.integers(0, 6), st.just(0), st.just("phase")),
        max_size=8,
    )
)
def test_both_readers_agree_on_any_few_records(path: Path, drawn: list[Any]) -> None:
    """Also with blocks of two records, so that the rules hold across blocks."""
    write(path, drawn)
    found = analysis.open(path)
    found._records._block = 2
    try:
        wrong, records = None, read(path)
    except TraceError as error:
        wrong, records = str(error), []
    if wrong is not None:
        with pytest.raises(TraceError) as again:
            _ = found.count
        assert str(again.value) == wrong
    else:
        ops = [record for record in records if isinstance(record, Op)]
        assert found.count == len(ops)
        # what is valid can be replayed: an op waits only for ops with lower seqs
        assert all(
            other.seq < one.seq for one in ops for other in ops if other.completed < one.submitted
        )


# ---------------------------------------------------------------- the header


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", True),
        ("size", float("nan")),
        ("started", -1),
        ("started", 1 << 63),
        ("id", "x" * (MAX_ID + 1)),
        ("driver", {"name": b"bytes"}),
        ("driver", {"serve": [msgpack.ExtType(5, b"x")]}),
        ("driver", {"at": msgpack.Timestamp(5)}),
        ("driver", nested(MAX_DEPTH + 1)),
        ("host", nested(500)),
        ("host", nested(1000)),
        ("tools", {"qemu": float("inf")}),
        ("trim", []),
        ("payloads", {}),
        ("cut", {"first": 1}),
        ("cut", {"trace": "x", "first": 1, "last": 2, "start_ops": -1}),
        ("cut", {"trace": 5, "first": 1, "last": 2, "start_ops": 0}),
    ],
)
def test_a_header_that_is_not_valid(path: Path, name: str, value: Any) -> None:
    path.write_bytes(msgpack.packb({**asdict(Header(SIZE)), name: value}))
    with pytest.raises(TraceError, match=f"its header is damaged: '{name}' is ") as caught:
        read(path)
    assert len(str(caught.value)) < len(str(path)) + 200


@pytest.mark.parametrize("key", [5, b"key", None])
def test_a_header_whose_keys_are_no_text(path: Path, key: Any) -> None:
    path.write_bytes(msgpack.packb({**asdict(Header(SIZE)), "host": {key: 1}}))
    with pytest.raises(TraceError, match=r"it has no header|'host' is"):
        read(path)


def test_a_header_of_plain_values(path: Path) -> None:
    driver = {"name": "d", "serve": ["a", "b"], "deep": nested(MAX_DEPTH - 1), "x": [None, 1.5]}
    write(path, SOME, Header(SIZE, driver=driver))
    assert read(path) == SOME


def test_a_record_that_is_an_op_by_its_tag_alone(path: Path) -> None:
    record = bytearray(pack_op(OP))
    record[-18] ^= 0xFF
    path.write_bytes(write(path, []).read_bytes() + record)
    assert why_not(path, 0) == "it is not laid out as an op"
