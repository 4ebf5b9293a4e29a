"""Nothing else is taken for a trace, and damage is an error that says where."""

from dataclasses import asdict, replace
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.traces import read_trace
from tests.tracer.trace.samples import OP, SIZE, SOME, read, rewritten, write
from tracer.errors import Exit, TraceError
from tracer.trace.file import Trace
from tracer.trace.header import FORMAT, MAX_HEADER, VERSION, Header
from tracer.trace.records import MAX_LENGTH, RECORD_SIZE, End, Record, pack_op

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
        with pytest.raises(TraceError, match=f"record 2, at byte {at}, is not valid: "):
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


@pytest.mark.parametrize("tag", [0, 128, 255])
def test_records_of_no_kind(path: Path, tag: int) -> None:
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
