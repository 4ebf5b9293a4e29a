"""The trace file: what was written reads back, whole or torn, and nothing else is taken for a trace."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kit.system import file_size_limit
from tests.kit.traces import read_trace
from tracer.errors import Exit, StorageError, TraceError
from tracer.op import NO_PAYLOAD, NO_TIME, Fault, Kind, Op
from tracer.trace.file import Trace, TraceWriter
from tracer.trace.header import FORMAT, MAX_HEADER, VERSION, Header
from tracer.trace.records import (
    MAX_LENGTH,
    MAX_MARK,
    RECORD_SIZE,
    End,
    Mark,
    Mismatch,
    Record,
    pack_op,
)

# the file is written anew by every example
rewritten = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

SIZE = 1 << 40
u16, u32, u64 = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 64))
digests = st.binary(min_size=16, max_size=16)


@st.composite
def ops(draw: st.DrawFn) -> Op:
    kind = int(draw(st.sampled_from(Kind)))
    limit = MAX_LENGTH["data" if kind in (Kind.READ, Kind.WRITE, Kind.START) else "other"]
    length = draw(st.integers(0 if kind == Kind.FLUSH else 1, limit))
    return Op(
        draw(u64), kind, draw(st.integers(0, 31)), draw(st.integers(0, SIZE - length)), length,
        draw(u64), draw(u64), draw(u64), draw(u64), draw(u16), draw(u16), draw(u32), draw(u64),
        draw(digests),
    )  # fmt: skip


@st.composite
def mismatches(draw: st.DrawFn) -> Mismatch:
    length = draw(st.integers(0, SIZE))
    return Mismatch(
        draw(u64), int(draw(st.sampled_from(Fault))), draw(st.integers(0, SIZE - length)), length,
        draw(u16), draw(u16), draw(u64), draw(u64), draw(digests),
    )  # fmt: skip


def short(limit: int) -> st.SearchStrategy[str]:
    characters = st.characters(codec="utf-8", exclude_characters="\0")
    return st.text(characters, max_size=limit).filter(lambda name: len(name.encode()) <= limit)


marks = st.builds(Mark, u64, u64, short(MAX_MARK))
ends = st.builds(End, u64, u64, u64, st.sampled_from(["clean", "damaged", "failed", "undecidable"]))

OP = Op(5, int(Kind.WRITE), 1, 4096, 512, 10, 20, 3, 4, 0, 0, 1, 77, b"d" * 16)
SOME: list[Record] = [
    OP,
    Mark(6, 25, "boot done"),
    replace(OP, seq=6, kind=int(Kind.FLUSH), offset=0, length=0),
    Mismatch(6, Fault.DATA, 4096, 512, 0, 5, 30, NO_PAYLOAD, b"e" * 16),
]


def write(path: Path, records: list[Any], header: Header | None = None) -> Path:
    """Write a trace; it is closed where the last record is an End."""
    writer = TraceWriter(path, header or Header(SIZE))
    for record in records:
        if isinstance(record, Op):
            writer.write([pack_op(record)])
        elif isinstance(record, Mark):
            writer.mark(record)
        elif isinstance(record, Mismatch):
            writer.mismatch(record)
        else:
            writer.close(record)
            return path
    writer.abandon()
    return path


def read(path: Path) -> list[Record]:
    with Trace(path) as trace:
        return list(trace.records())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.trace"


@pytest.fixture
def good(path: Path) -> bytes:
    """The bytes of a small trace that was closed."""
    return write(path, [*SOME, End(7, 1, 40, "damaged")]).read_bytes()


# ---------------------------------------------------------------- round trip


@rewritten
@given(st.lists(st.one_of(ops(), marks, mismatches()), max_size=10), ends)
def test_every_record_reads_back(path: Path, records: list[Record], end: End) -> None:
    with Trace(write(path, [*records, end])) as trace:
        assert list(trace.records()) == [*records, end]
        assert list(trace.ops()) == [record for record in records if isinstance(record, Op)]
        assert trace.marks() == [record for record in records if isinstance(record, Mark)]
        assert trace.mismatches() == [record for record in records if isinstance(record, Mismatch)]
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


# ---------------------------------------------------------------- what is no trace


def why_not(path: Path) -> str:
    """Read it all; return why that fails, in one line."""
    with pytest.raises(TraceError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert caught.value.exit_code == Exit.BAD_TRACE
    return message


def test_a_file_that_is_not_there(path: Path) -> None:
    assert "No such file" in why_not(path)


def test_an_empty_file(path: Path) -> None:
    path.touch()
    assert "not a trace" in why_not(path)


def test_a_folder(tmp_path: Path) -> None:
    assert "Is a directory" in why_not(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"hello, world\n" * 100,
        b"\x7fELF" + bytes(1000),
        b"\xc1",
        b"\x80",
        msgpack.packb({"format": "other", "version": VERSION}),
        msgpack.packb([1, 2, 3]),
        msgpack.packb({1: 2}),
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff" * 100,
        b"\x91" * 5000,
        b"\xc6\xff\xff\xff\xff",
    ],
)
def test_other_files(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    assert "not a trace" in why_not(path)


@rewritten
@given(st.binary(max_size=500))
def test_random_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    why_not(path)


def test_a_header_without_an_end(path: Path) -> None:
    path.write_bytes(msgpack.packb({"format": FORMAT, "x": bytes(2 * MAX_HEADER)}))
    assert "not a trace" in why_not(path)


@pytest.mark.parametrize("version", [0, VERSION + 1, "1", None, 1.5, [1]])
def test_another_version(path: Path, version: object) -> None:
    path.write_bytes(msgpack.packb({**asdict(Header(SIZE)), "version": version}))
    assert f"version {version!r} is not known here" in why_not(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", 0),
        ("size", -1),
        ("size", (1 << 62) + 1),
        ("size", "big"),
        ("size", None),
        ("record_size", RECORD_SIZE + 1),
        ("record_size", None),
        ("digest", "md5"),
        ("payloads", "some"),
        ("id", 5),
        ("driver", "qcow2"),
        ("host", None),
        ("tools", []),
        ("trim", 5),
        ("trim", "sometimes"),
        ("started", "yesterday"),
        ("start_image", None),
    ],
)
def test_a_damaged_header(path: Path, name: str, value: object) -> None:
    path.write_bytes(msgpack.packb({**asdict(Header(SIZE)), name: value}))
    assert "its header is damaged" in why_not(path)


@pytest.mark.parametrize("name", ["size", "record_size", "digest", "payloads", "id", "driver"])
def test_a_header_that_lacks_a_field(path: Path, name: str) -> None:
    fields = asdict(Header(SIZE))
    del fields[name]
    path.write_bytes(msgpack.packb(fields))
    assert "its header is damaged" in why_not(path)


def test_fields_of_a_later_release_are_passed_over(path: Path) -> None:
    path.write_bytes(msgpack.packb({**asdict(Header(SIZE)), "mood": "sunny"}))
    assert read_trace(path)[0].header.size == SIZE


# ---------------------------------------------------------------- damaged records


def damaged(path: Path, record: bytes) -> None:
    """A record in third place that is none: those before it read back, and the error says where."""
    write(path, SOME[:2])
    at = path.stat().st_size
    with path.open("ab") as file:
        file.write(record + pack_op(OP))
    with Trace(path) as trace:
        records = trace.records()
        assert [next(records), next(records)] == SOME[:2]
        with pytest.raises(TraceError, match=f"no record where one should be, at byte {at}$"):
            next(records)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": 2},
        {"kind": 8},
        {"kind": 255},
        {"offset": SIZE - 511},
        {"offset": SIZE},
        {"offset": (1 << 64) - 1},
        {"length": 0},
        {"length": MAX_LENGTH["data"] + 1},
        {"length": (1 << 64) - 1},
        {"kind": 6, "length": 1 << 32},
        {"kind": 3, "offset": SIZE + 1, "length": 0},
    ],
)
def test_ops_that_no_disk_can_have_seen(path: Path, changes: dict[str, int]) -> None:
    damaged(path, pack_op(replace(OP, **changes)))


@pytest.mark.parametrize("tag", [0, 5, 127, 255])
def test_records_of_unknown_kinds(path: Path, tag: int) -> None:
    record = bytearray(pack_op(OP))
    record[1] = tag
    damaged(path, bytes(record))


def packed(record: Record, path: Path) -> bytes:
    return write(path, [record]).read_bytes()[-RECORD_SIZE:]


# where the msgpack types are in each kind of record
TYPES = {
    "op": (OP, (0, 2, 11, 13, 16, 25, 34, 43, 52, 61, 70, 73, 76, 81, 90, 91)),
    "mark": (SOME[1], (0, 2, 11, 20, 21)),
    "mismatch": (SOME[3], (0, 2, 11, 13, 22, 31, 34, 37, 46, 55, 56, 73, 74)),
    "end": (End(1, 2, 3, "clean"), (0, 2, 11, 20, 29, 30)),
}


@pytest.mark.parametrize("kind", TYPES)
def test_records_with_wrong_types(path: Path, kind: str) -> None:
    record, places = TYPES[kind]
    good = packed(record, path)
    for at in places:
        bad = bytearray(good)
        bad[at] ^= 1
        damaged(path, bytes(bad))


@pytest.mark.parametrize(
    "changes",
    [{"fault": 0}, {"fault": 6}, {"offset": SIZE}, {"length": SIZE}, {"length": (1 << 64) - 1}],
)
def test_mismatches_that_cannot_be(path: Path, changes: dict[str, int]) -> None:
    bad = replace(SOME[3], **changes)  # type: ignore[type-var]
    damaged(path, packed(bad, path))


@rewritten
@given(st.data())
def test_damage_anywhere_is_an_error_or_another_record(path: Path, data: st.DataObject) -> None:
    """Whatever a trace's bytes are, reading it gives records or a TraceError."""
    good = write(path, [*SOME, End(7, 1, 40, "damaged")]).read_bytes()
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bad)
    try:
        with Trace(path) as trace:
            _ = trace.end, trace.marks(), trace.mismatches()
            records = list(trace.records())
    except TraceError:
        why_not(path)
    else:
        assert len(records) == 5


def test_an_end_that_is_damaged_is_an_error(path: Path, good: bytes) -> None:
    bad = bytearray(good)
    bad[-RECORD_SIZE] = 0x96
    path.write_bytes(bad)
    with Trace(path) as trace, pytest.raises(TraceError):
        _ = trace.end
