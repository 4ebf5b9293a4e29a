"""The trace file: what was written reads back, whole or torn."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.system import file_size_limit
from tests.kit.traces import as_recorded, read_trace
from tests.tracer.trace.samples import (
    OP,
    SIZE,
    SOME,
    ends,
    marks,
    mismatches,
    ops,
    read,
    restarts,
    rewritten,
    settles,
    write,
)
from tracer.errors import StorageError, TraceError
from tracer.op import NO_PAYLOAD, NO_TIME, Fault, Kind, Op
from tracer.trace.file import Trace, TraceWriter
from tracer.trace.header import FORMAT, VERSION, Header
from tracer.trace.records import (
    MAX_MARK,
    RECORD_SIZE,
    End,
    Mark,
    Mismatch,
    Record,
    Restart,
    Settle,
    pack_op,
)

# ---------------------------------------------------------------- round trip


@rewritten
@given(st.lists(st.one_of(ops(), marks, mismatches(), settles(), restarts), max_size=10), ends)
def test_every_record_reads_back(path: Path, drawn: list[Any], end: End) -> None:
    numbered = [
        replace(record, seq=at) if isinstance(record, Op | Restart) else record
        for at, record in enumerate(drawn)
        # a settle names an op that came before it
        if not isinstance(record, Settle)
    ]
    came = [record.seq for record in numbered if isinstance(record, Op)]
    settled = [record for record in drawn if isinstance(record, Settle)] if came else []
    numbered += [replace(record, seq=came[record.seq % len(came)]) for record in settled]
    records: list[Record] = [*as_recorded(numbered)]
    with Trace(write(path, [*records, end])) as trace:
        assert list(trace.records()) == [*records, end]
        assert list(trace.ops()) == [record for record in records if isinstance(record, Op)]
        assert trace.marks() == [record for record in records if isinstance(record, Mark)]
        assert trace.mismatches() == [record for record in records if isinstance(record, Mismatch)]
        assert trace.settles() == [record for record in records if isinstance(record, Settle)]
        assert trace.restarts() == [record for record in records if isinstance(record, Restart)]
        assert trace.end == end
        assert trace.count == len(records) + 1
        assert trace.torn_bytes == 0


def test_the_header_reads_back(path: Path) -> None:
    header = Header(
        SIZE, "hash", {"name": "qcow2", "serve": ["a", "b"]}, {"name": "host"}, {"qemu-nbd": "7.2"},
        123, "old-or-zero", start_image="recorded",
    )  # fmt: skip
    assert read_trace(write(path, [], header))[0].header == header


def test_every_trace_has_an_id_of_its_own() -> None:
    assert Header(SIZE).id != Header(SIZE).id


def test_an_op_that_never_completed(path: Path) -> None:
    op = Op(1, int(Kind.READ), length=1)
    assert read(write(path, [op])) == [op]
    assert op.completed == NO_TIME


def test_all_records_have_the_same_size(good: bytes) -> None:
    header = msgpack.Unpacker()
    header.feed(good)
    header.skip()
    assert len(good) - header.tell() == 5 * RECORD_SIZE


def test_many_ops_in_one_call(path: Path) -> None:
    writer = TraceWriter(path, Header(SIZE))
    many = [replace(OP, seq=seq) for seq in range(1000)]
    writer.write([pack_op(op) for op in many])
    writer.close(End(1000, 0, 0, "clean"))
    assert read_trace(path)[1] == many


def test_what_was_written_is_in_the_file_at_once(path: Path) -> None:
    """Not only in a buffer: a recorder that is killed loses nothing that a guest saw done."""
    writer = TraceWriter(path, Header(SIZE))
    for seq in range(3):
        writer.write([pack_op(replace(OP, seq=seq))])
        assert [op.seq for op in read_trace(path)[1]] == list(range(seq + 1))
    writer.abandon()


@pytest.mark.parametrize("name", ["", "x" * MAX_MARK, "ä" * (MAX_MARK // 2)])
def test_marks_up_to_the_longest(path: Path, name: str) -> None:
    assert read(write(path, [Mark(0, 0, name)])) == [Mark(0, 0, name)]


def test_a_mark_that_is_too_long(path: Path) -> None:
    with pytest.raises(ValueError, match="at most 86 bytes"):
        write(path, [Mark(0, 0, "x" * (MAX_MARK + 1))])


# ---------------------------------------------------------------- for other programs


def test_any_msgpack_library_reads_it(good: bytes) -> None:
    unpacker = msgpack.Unpacker()
    unpacker.feed(good)
    header, *records = list(unpacker)
    assert header["format"] == FORMAT
    assert header["version"] == VERSION
    assert header["size"] == SIZE
    assert header["record_size"] == RECORD_SIZE
    assert records[0] == [1, 5, 1, 1, 4096, 512, 10, 20, 3, 4, 0, 0, 1, 77, b"d" * 16]
    assert records[1] == [2, 6, 25, "boot done".ljust(MAX_MARK, "\0")]
    assert records[3][:10] == [3, 6, Fault.DATA, 4096, 512, 0, 5, 30, NO_PAYLOAD, b"e" * 16]
    assert records[4][:4] == [4, 7, 1, 40]
    assert records[4][4].rstrip("\0") == "damaged"


@given(st.lists(ops(), max_size=20))
def test_packed_ops_are_msgpack_of_a_fixed_size(many: list[Op]) -> None:
    unpacker = msgpack.Unpacker()
    unpacker.feed(b"".join(map(pack_op, many)))
    assert [record[1:] for record in unpacker] == [list(asdict(op).values()) for op in many]
    assert {len(pack_op(op)) for op in many} <= {RECORD_SIZE}


# ---------------------------------------------------------------- torn, or not closed


def test_a_trace_that_was_not_closed_says_so(path: Path) -> None:
    with Trace(write(path, SOME)) as trace:
        assert trace.end is None
        assert list(trace.records()) == SOME


def test_a_trace_without_records(path: Path) -> None:
    with Trace(write(path, [])) as trace:
        assert trace.count == 0
        assert trace.end is None
        assert list(trace.records()) == []


def test_any_prefix_reads_back_up_to_its_last_whole_record(path: Path, good: bytes) -> None:
    records = read(path)
    start = len(good) - len(records) * RECORD_SIZE
    for cut in range(len(good)):
        path.write_bytes(good[:cut])
        if cut < start:
            with pytest.raises(TraceError, match="not a trace"):
                Trace(path)
            continue
        whole, torn = divmod(cut - start, RECORD_SIZE)
        with Trace(path) as trace:
            assert list(trace.records()) == records[:whole]
            assert trace.torn_bytes == torn
            assert trace.end is None


@pytest.mark.parametrize("room", [0, 1, RECORD_SIZE - 1, RECORD_SIZE, 2 * RECORD_SIZE + 50])
def test_a_disk_that_is_full_for_a_while_tears_no_record(path: Path, room: int) -> None:
    """A record that did not fit may not leave a piece behind that later records come after."""
    writer = TraceWriter(path, Header(SIZE))
    writer.write([pack_op(OP)])
    with file_size_limit(path.stat().st_size + room), pytest.raises(StorageError) as caught:
        writer.write([pack_op(replace(OP, seq=seq)) for seq in (6, 7, 8)])
    assert str(path) in str(caught.value)
    writer.close(End(1, 0, 0, "incomplete"))
    with Trace(path) as trace:
        assert next(trace.ops()) == OP
        assert trace.torn_bytes == 0
        assert trace.end == End(1, 0, 0, "incomplete")


def test_a_trace_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        TraceWriter(tmp_path / "no" / "folder.trace", Header(SIZE))


def test_a_full_disk_from_the_start() -> None:
    with pytest.raises(StorageError, match="No space left"):
        TraceWriter(Path("/dev/full"), Header(SIZE))
