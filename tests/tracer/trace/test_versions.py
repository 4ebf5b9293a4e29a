"""A file of each version of the format, committed when that version was the newest, still reads.

``version-1`` was recorded (``trace record --driver raw``; its header's host and start time were
replaced). ``version-2`` was written record by record, with every kind of record.
"""

import shutil
from pathlib import Path

import msgpack
import pytest

import analysis
from tests.kit.traces import read_trace
from tracer.digest import digest
from tracer.errors import TraceError
from tracer.op import NO_PAYLOAD, Conflicts, Fault, Flag, Kind, Op, TrimRule
from tracer.rework.cut import cut
from tracer.rework.strip import strip
from tracer.rework.verify import verify
from tracer.trace.data import TraceWithData
from tracer.trace.file import Trace
from tracer.trace.header import VERSION
from tracer.trace.records import End, Mark, Mismatch, Restart, Settle, Tag, Unknown

RECORDINGS = Path(__file__).parents[2] / "kit" / "recordings"

ONE, TWO = RECORDINGS / "version-1.trace", RECORDINGS / "version-2.trace"

FUA, NO_HOLE = int(Flag.FUA), int(Flag.NO_HOLE)


def told(op: Op) -> tuple[int, Kind, int, int, int]:
    return op.seq, Kind(op.kind), op.flags, op.offset, op.length


def version_of(path: Path) -> int:
    """The version that the file itself says."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(path.read_bytes())
    version: int = unpacker.unpack()["version"]
    return version


def test_each_version_has_a_file() -> None:
    assert [version_of(path) for path in (ONE, TWO)] == list(range(1, VERSION + 1))


def test_version_1() -> None:
    recorded, ops = read_trace(ONE)
    header = recorded.header
    assert (header.version, header.conflicts, header.profile) == (VERSION, Conflicts.HELD, {})
    assert (header.size, header.trim, header.driver["name"]) == (1 << 20, TrimRule.ANY, "raw")
    assert [told(op) for op in ops] == [
        (0, Kind.WRITE, 0, 0, 4096),
        (1, Kind.WRITE, 0, 8192, 512),
        (2, Kind.ZERO, NO_HOLE, 4096, 4096),
        (3, Kind.TRIM, 0, 8192, 4096),
        (4, Kind.READ, 0, 0, 8192),
        (5, Kind.FLUSH, 0, 0, 0),
        (6, Kind.WRITE, FUA, 65536, 1000),
        (7, Kind.WRITE, 0, 0, 512),
        (8, Kind.WRITE, 0, 131072, 512),
        (9, Kind.READ, 0, 0, 512),
        (10, Kind.FLUSH, 0, 0, 0),
        (11, Kind.FLUSH, 0, 0, 0),
    ]
    assert (ops[6].submitted, ops[6].completed) == (10364267, 10576277)
    assert (ops[6].reference_ns, ops[6].test_ns) == (17292, 140644)
    assert [op.connection for op in ops] == [1] * 11 + [0]
    written = {0: b"\1" * 4096, 1: b"\2" * 512, 6: b"\3" * 1000, 7: b"\4" * 512, 8: b"\5" * 512}
    with TraceWithData(ONE) as source:
        assert {op.seq: source.data(op) for op in ops if op.kind == Kind.WRITE} == written
    assert ops[4].digest == digest(bytes(written[0]) + bytes(4096))
    assert (recorded.marks, recorded.mismatches, recorded.settles) == ([], [], [])
    assert recorded.end == End(12, 0, 35551101, "clean")


def test_version_2() -> None:
    a, b, c = b"\xa1" * 4096, b"\xb2" * 4096, b"\xc3" * 512

    def op(
        seq: int, kind: Kind, flags: int, place: tuple[int, int], *more: int, **what: bytes
    ) -> Op:
        submitted, completed, reference, test, connection, payload = more
        data = what.get("data")
        return Op(
            seq, int(kind), flags, *place, submitted, completed, reference, test, 0, 0, connection,
            payload, bytes(16) if data is None else digest(data),
        )  # fmt: skip

    with Trace(TWO) as trace:
        header, records = trace.header, list(trace.records())
    assert (header.conflicts, header.trim) == (Conflicts.SENT, TrimRule.OLD_OR_ZERO)
    assert header.profile == {"seed": 5, "features": {"fua": True}}
    none = NO_PAYLOAD
    assert records == [
        op(1, Kind.WRITE, 0, (2048, 4096), 120, 180, 30, 50, 2, 0, data=b),
        op(0, Kind.WRITE, FUA, (0, 4096), 100, 200, 40, 60, 1, 4096, data=a),
        op(2, Kind.READ, 0, (0, 4096), 300, 350, 10, 20, 1, none, data=a),
        Settle(2, 2048, 2048, 0, 350, digest(a[:2048])),
        op(3, Kind.TRIM, 0, (8192, 4096), 400, 410, 0, 5, 2, none),
        op(4, Kind.FLUSH, 0, (0, 0), 420, 500, 0, 80, 1, none),
        Mark(5, 510, "before the restart"),
        Unknown(Tag.LOWER),
        Restart(5, 550, "guest returned"),
        op(5, Kind.WRITE, 0, (65536, 512), 600, 650, 20, 30, 3, 8192, data=c),
        op(6, Kind.READ, 0, (65536, 512), 700, 720, 20, 30, 3, none, data=c),
        Mismatch(6, Fault.DATA, 65536, 512, 0, 0, 720, none, digest(bytes(512) + b"x")),
        End(7, 1, 800, "damaged"),
    ]
    with TraceWithData(TWO) as source:
        ops = list(source.trace.ops())
        written = {one.seq: source.data(one) for one in ops if one.kind == Kind.WRITE}
    assert written == {0: a, 1: b, 5: c}


@pytest.mark.parametrize("path", [ONE, TWO])
def test_verbs_take_every_version(path: Path, tmp_path: Path) -> None:
    """What is made of an older trace has the newest version, and says what the older one did."""
    recorded, ops = read_trace(path)
    assert verify(path).problems == []
    frames = analysis.open(path).ops.collect()
    assert frames["seq"].to_list() == sorted(op.seq for op in ops)
    strip(path, tmp_path / "stripped.trace")
    with TraceWithData(path) as source:
        cut(source, 1, 100, tmp_path / "part.trace")
    for made in ("stripped", "part"):
        out = tmp_path / f"{made}.trace"
        assert version_of(out) == VERSION
        again, _ = read_trace(out)
        assert again.header.conflicts == recorded.header.conflicts
        assert again.header.profile == recorded.header.profile


def test_a_version_to_come_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "later.trace"
    shutil.copy(TWO, path)
    content = path.read_bytes()
    key = msgpack.packb("version")
    assert content.count(key + bytes([VERSION])) == 1
    path.write_bytes(content.replace(key + bytes([VERSION]), key + bytes([VERSION + 1])))
    with pytest.raises(TraceError, match=f"format version {VERSION + 1} is not known here"):
        read_trace(path)
