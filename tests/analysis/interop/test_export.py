"""Exports for looking: Parquet, Arrow, Chrome trace events; and what all exports have in common."""

import itertools
import json
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import analysis
from analysis.interop.exporting import export_trace
from analysis.interop.formats import EXPORTS
from tests.kit.command import trace
from tests.kit.foreign import bring_in
from tests.kit.system import entries, file_size_limit
from tracer.errors import Exit, StorageError, TraceError, UsageError
from tracer.op import NO_TIME, Fault, Flag, Kind, Op
from tracer.trace.file import TraceWriter
from tracer.trace.header import Header
from tracer.trace.records import End, Mark, Mismatch, Restart, Settle, pack_op

SCRIPT = (
    "write 0 4k\naio_write 64k 64k\naio_write -z 128k 64k\naio_read 1k 1k\naio_flush\n"
    "read 0 8k\nflush\n"
)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    bring_in(tmp_path / "s.txt", SCRIPT)
    (tmp_path / "s.txt").unlink()
    return tmp_path / "s.trace"


def eventful(path: Path) -> Path:
    """A trace with all kinds of record."""
    writer = TraceWriter(path, Header(size=1 << 20, payloads="hash", start_image="recorded"))
    ops = [
        Op(0, Kind.START, 0, 0, 512, 0, 0),
        Op(
            1,
            Kind.WRITE,
            Flag.FUA,
            512,
            1000,
            1_000_001,
            3_000_002,
            test_status=5,
            reference_status=5,
        ),
        Op(2, Kind.READ, 0, 4096, 4096, 1_200_000, 4_000_000),
        Op(4, Kind.TRIM, 0, 4096, 4096, 3_500_000, 5_000_000),
        Op(3, Kind.FLUSH, 0, 0, 0, 1_500_000, NO_TIME),
    ]
    writer.write([pack_op(op) for op in ops])
    writer.mark(Mark(2, 1_100_000, 'a "mark"\n</script>'))
    writer.mismatch(Mismatch(2, Fault.DATA, 4608, 512, 0, 0, 4_000_000, NO_TIME, bytes(16)))
    writer.settle(Settle(2, 4096, 512, 0, 4_000_000, bytes(16)))
    writer.restart(Restart(5, 4_100_000, "phase"))
    writer.close(End(5, 1, 5_000_000, "damaged"))
    return path


@pytest.mark.parametrize(
    ("name", "read"), [("x.parquet", pl.read_parquet), ("x.arrow", pl.read_ipc)]
)
def test_columns(recorded: Path, name: str, read: object) -> None:
    made = export_trace(recorded, recorded.with_name(name))
    assert callable(read)
    assert made.left_out == {}
    assert_frame_equal(read(recorded.with_name(name)), analysis.open(recorded).ops.collect())


def test_columns_of_a_trace_with_marks(tmp_path: Path) -> None:
    made = export_trace(eventful(tmp_path / "e.trace"), tmp_path / "e.parquet")
    assert made.left_out == {"mark": 1, "mismatch": 1, "settle": 1, "restart": 1}
    assert pl.read_parquet(tmp_path / "e.parquet")["kind"].to_list() == [
        "start", "write", "read", "flush", "trim",
    ]  # fmt: skip


def test_chrome_events(tmp_path: Path) -> None:
    made = export_trace(eventful(tmp_path / "e.trace"), tmp_path / "e.json")
    assert made.left_out == {"pieces of the start image": 1, "settle": 1}
    whole = json.loads((tmp_path / "e.json").read_text())
    events = whole["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X", "B", "i"}
    # Perfetto takes thread 0 for thread 1 of process 1, and drops ops that overlap there
    assert all(event["pid"] == 1 and event["tid"] >= 1 for event in events)
    ops = [event for event in events if event["ph"] in "XB"]
    assert [(op["name"], op["ph"], op["tid"], op["ts"], op.get("dur")) for op in ops] == [
        ("write", "X", 1, 1000.001, 2000.001),
        ("read", "X", 2, 1200.0, 2800.0),
        ("flush", "B", 3, 1500.0, None),
        ("trim", "X", 1, 3500.0, 1500.0),
    ]
    assert ops[0]["args"] == {
        "op": 1, "sector": 1, "sectors": 2, "offset": 512, "length": 1000, "flags": "FUA",
        "errno": 5,
    }  # fmt: skip
    assert ops[2]["args"] == {"op": 3, "completed": False}
    told = [(event["name"], event["ts"], event["args"]) for event in events if event["ph"] == "i"]
    assert told == [
        ('a "mark"\n</script>', 1100.0, {"before op": 2}),
        ("mismatch: data", 4000.0, {"op": 2, "sector": 9}),
        ("restart: phase", 4100.0, {"before op": 5}),
    ]
    names = [event["args"]["name"] for event in events if event["ph"] == "M"]
    assert names == ["e.trace", "in flight 1", "in flight 2", "in flight 3"]


def test_no_row_has_two_at_once(recorded: Path) -> None:
    export_trace(recorded, recorded.with_name("x.json"))
    events = json.loads(recorded.with_name("x.json").read_text())["traceEvents"]
    ops = [event for event in events if event["ph"] == "X"]
    assert len(ops) == analysis.open(recorded).count
    for _, row in itertools.groupby(
        sorted(ops, key=lambda op: (op["tid"], op["ts"])), lambda op: op["tid"]
    ):
        for one, after in itertools.pairwise(row):
            assert one["ts"] + one["dur"] <= after["ts"] + 1e-6


@pytest.mark.parametrize("name", EXPORTS)
def test_a_broken_trace_leaves_nothing(recorded: Path, name: str) -> None:
    damaged = bytearray(recorded.read_bytes())
    damaged[-200] ^= 0xFF
    damaged[-220] ^= 0xFF
    recorded.write_bytes(damaged)
    before = entries(recorded.parent)
    with pytest.raises(TraceError):
        export_trace(recorded, recorded.with_name("out"), name=name)
    assert entries(recorded.parent) == before


@pytest.mark.parametrize("name", EXPORTS)
def test_a_full_disk_leaves_nothing(recorded: Path, name: str) -> None:
    before = entries(recorded.parent)
    with file_size_limit(100), pytest.raises(StorageError):
        export_trace(recorded, recorded.with_name("out"), name=name)
    assert entries(recorded.parent) == before


def test_nothing_is_overwritten(recorded: Path) -> None:
    out = recorded.with_name("x.json")
    out.write_text("mine")
    with pytest.raises(UsageError, match=r"x\.json exists"):
        export_trace(recorded, out)
    assert out.read_text() == "mine"
    export_trace(recorded, out, force=True)
    assert out.read_text().startswith("{")


def test_the_command(recorded: Path) -> None:
    folder = recorded.parent
    done = trace("export", recorded, "-o", "x.log", cwd=folder)
    assert done.stdout == "file:      x.log (134.5 KiB, log of dm-log-writes)\nleft out:  2 read\n"
    told = json.loads(
        trace("export", recorded, "-o", "y", "--format", "fio", "--json", cwd=folder).stdout
    )
    assert told["schema"] == 1
    assert (told["format"], told["bytes"]) == ("fio", (folder / "y").stat().st_size)
    failed = trace("export", recorded, "-o", "x.xyz", cwd=folder, expect=Exit.USAGE)
    assert "the suffix does not name a format" in failed.stderr
    failed = trace("export", recorded, "-o", "x", "--format", "xyz", cwd=folder, expect=Exit.USAGE)
    assert "--format 'xyz': write one of dm-log-writes, " in failed.stderr
    failed = trace("export", recorded, "-o", "no/x.json", cwd=folder, expect=Exit.USAGE)
    assert "there is no folder no" in failed.stderr
    assert entries(folder) == ["s.payloads", "s.trace", "x.log", "y"]
