"""Frames say what a plain loop over the records says."""

import errno
import gc
import subprocess
import sys
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import analysis
from analysis.frames import records
from analysis.frames.columns import OPS, RESTARTS, SETTLES, TIME, WRITERS, in_ns
from analysis.frames.layout import OP_DTYPE
from tests.kit.system import descriptors
from tests.kit.traces import ENDED, as_recorded
from tests.kit.traces import write_trace as write
from tests.tracer.trace.samples import flags_of, places
from tracer.errors import TraceError, UsageError
from tracer.op import MUTATING, NO_SEQ, NO_TIME, SECTOR, Fault, Flag, Kind, Op
from tracer.trace.file import Trace
from tracer.trace.header import Header
from tracer.trace.output import TraceOutput
from tracer.trace.records import RECORD_SIZE, End, Mark, Mismatch, Restart, Settle, pack_op

# the file is written anew by every example
rewritten = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

SIZE = 1 << 40
u16, u32, u63, u64 = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 63, 64))


@st.composite
def ops(draw: st.DrawFn, size: int = SIZE, times: st.SearchStrategy[int] = u63) -> Op:
    kind = int(draw(st.sampled_from(Kind)))
    length = 0 if kind == Kind.FLUSH else draw(st.integers(1, min(size, 32 << 20)))
    theirs = draw(st.sampled_from([0, errno.ENOTSUP, errno.EIO]) | u16)
    ours = draw(st.sampled_from([0, errno.ENOTSUP]) | u16)
    return Op(
        draw(u63), kind, draw(flags_of(kind)), draw(places(kind, length, size)), length,
        draw(times), draw(times | st.just(NO_TIME)), draw(u63), draw(u63), ours, theirs,
        draw(u32), draw(u64), draw(st.binary(min_size=16, max_size=16)),
    )  # fmt: skip


def numbered(many: Sequence[Any]) -> list[Any]:
    """The records, with seqs for ops: the even ones first, so that the file is in another order."""
    places = (*range(0, len(many), 2), *range(1, len(many), 2))
    seqs = dict(zip(places, range(len(many)), strict=True))
    return [
        replace(record, seq=seqs[at]) if isinstance(record, Op) else record
        for at, record in enumerate(many)
    ]


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The ops' rows by a plain loop, from what any msgpack library makes of the file."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(path.read_bytes())
    records = [record for record in list(unpacker)[1:] if record[0] == 1]
    rows = []
    for record in sorted(records, key=lambda record: record[1]):
        _, seq, kind, flags, offset, length, submitted, completed, ours, theirs, *rest = record
        reference_status, test_status, connection, _, digest = rest
        first, end = offset // SECTOR, -(-(offset + length) // SECTOR)
        done = None if completed == NO_TIME else completed
        together = [other for other in records if other is not record and other[2] != Kind.START]
        if kind == Kind.START:
            together = []
        rows.append(
            {
                "seq": seq,
                "kind": Kind(kind).label,
                "offset_bytes": offset,
                "length_bytes": length,
                "sector": first,
                "sectors": end - first if length else 0,
                "flags": "|".join(flag.name or "" for flag in Flag if flags & flag),
                "submitted": submitted,
                "completed": done,
                "latency": None if done in (None, submitted) else completed - submitted,
                "in_flight": sum(
                    other[6] <= submitted and max(other[6], other[7]) >= submitted
                    for other in together
                ),
                "status": test_status or reference_status,
                "reference_took": ours or None,
                "test_took": theirs or None,
                "digest": digest,
                "connection": connection,
            }
        )
    return rows


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few ops are several batches."""
    monkeypatch.setattr(records, "BLOCK", 3)


def test_importing_analysis_does_not_load_matplotlib() -> None:
    told = "import sys, analysis; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", told], check=False).returncode == 0


def test_the_dtype_is_the_twin_of_the_record() -> None:
    op = Op(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, b"0123456789abcde\0")
    assert OP_DTYPE.itemsize == RECORD_SIZE
    (record,) = np.frombuffer(pack_op(op), OP_DTYPE)
    assert [record[name] for name in OP_DTYPE.names or ()][:14] == [1, *range(1, 14)]
    assert record["digest"].tobytes() == op.digest


@rewritten
@given(
    st.lists(
        ops() | st.builds(Mark, u63, u63, st.just("m")),
        max_size=12,
    ).map(numbered),
    st.booleans(),
)
def test_the_frame_is_what_a_loop_makes_of_the_records(
    path: Path, records: list[Op | Mark], closed: bool
) -> None:
    expected = rows_of(write(path, as_recorded(records), end=ENDED if closed else None))
    t = analysis.open(path)
    frame = t.ops.collect()
    assert frame.schema == OPS
    assert in_ns(frame).to_dicts() == expected
    assert t.count == len(expected)
    assert t.closed == closed


@rewritten
@given(st.lists(ops(times=st.integers(0, 6)), max_size=12).map(numbered))
def test_in_flight_counts_what_was_submitted_and_not_completed(path: Path, many: list[Op]) -> None:
    """Few moments, so that ops share them: what completes as another is submitted is still
    there."""
    expected = [row["in_flight"] for row in rows_of(write(path, as_recorded(many)))]
    assert analysis.open(path).ops.select("in_flight").collect()["in_flight"].to_list() == expected


@pytest.mark.slow
@rewritten
@given(
    st.lists(ops(), max_size=10), st.integers(0, 12), st.integers(0, 12), st.sampled_from(Kind), u63
)
def test_queries_find_what_they_find_in_the_collected_frame(
    path: Path, many: list[Op], start: int, count: int, kind: Kind, least: int
) -> None:
    lazy = analysis.open(write(path, as_recorded(numbered(many)))).ops
    whole = lazy.collect()
    big = pl.col("submitted") >= pl.lit(least, TIME)
    assert lazy.filter(big).head(count).collect().equals(whole.filter(big).head(count))
    assert lazy.head(count).filter(big).collect().equals(whole.head(count).filter(big))
    assert lazy.slice(start, count).collect().equals(whole.slice(start, count))
    assert lazy.tail(count).select("digest").collect().equals(whole.tail(count).select("digest"))
    assert lazy.filter(kind=kind.label).collect().equals(whole.filter(kind=kind.label))
    assert (
        lazy.filter(big).select("in_flight").collect().equals(whole.filter(big).select("in_flight"))
    )
    assert lazy.select(pl.len()).collect().item() == len(whole)


@rewritten
@given(st.lists(ops(), min_size=1, max_size=8), st.integers(1, RECORD_SIZE - 1))
def test_a_torn_trace_reads_up_to_its_last_whole_record(
    path: Path, many: list[Op], kept: int
) -> None:
    whole = write(path, as_recorded(numbered(many)), end=None).read_bytes()
    path.write_bytes(whole[: len(whole) - RECORD_SIZE])
    expected = rows_of(path)
    path.write_bytes(whole[: len(whole) - RECORD_SIZE + kept])
    t = analysis.open(path)
    assert in_ns(t.ops.collect()).to_dicts() == expected
    assert t.torn_bytes == kept
    assert not t.closed
    assert "not closed" in repr(t)


@rewritten
@given(
    st.lists(ops(), min_size=1, max_size=4),
    st.data(),
    st.integers(0, RECORD_SIZE - 1),
    st.integers(0, 255),
)
def test_what_is_no_record_is_refused_as_the_reader_refuses_it(
    path: Path, many: list[Op], data: st.DataObject, at: int, byte: int
) -> None:
    content = bytearray(write(path, as_recorded(numbered(many))).read_bytes())
    which = data.draw(st.integers(0, len(many) - 1))
    content[len(content) - (len(many) + 1 - which) * RECORD_SIZE + at] = byte
    path.write_bytes(content)
    try:
        with Trace(path) as opened:
            wrong, _ = None, list(opened.ops())
    except TraceError as error:
        wrong = str(error)
    t = analysis.open(path)
    if wrong is None:
        assert in_ns(t.ops.collect()).to_dicts() == rows_of(path)
    else:
        with pytest.raises(TraceError) as raised:
            _ = t.ops
        assert str(raised.value) == wrong


@pytest.mark.parametrize("name", ["seq", "submitted", "completed", "reference_ns", "test_ns"])
@pytest.mark.parametrize("number", [1 << 63, (1 << 64) - 2])
def test_a_number_of_64_bits_is_refused(path: Path, number: int, name: str) -> None:
    op = Op(0, int(Kind.WRITE), length=1)
    setattr(op, name, number)
    with pytest.raises(TraceError, match="is not valid: "):
        _ = analysis.open(write(path, [op])).ops


def test_a_file_that_is_no_trace(path: Path) -> None:
    path.write_bytes(b"no trace at all")
    with pytest.raises(TraceError, match="is not a trace"):
        analysis.open(path)


def test_a_recording_that_is_no_longer_used_is_closed(path: Path) -> None:
    """Queries hold on to it, and nothing else does."""
    gc.collect()  # what other tests have left
    before = descriptors()
    t = analysis.open(write(path, [Op(0, int(Kind.WRITE), length=1)]))
    assert len(t.ops.collect()) == len(t.history(0)) == 1
    lazy, batches = t.ops, t.batches()
    gone = weakref.ref(t)
    del t
    gc.collect()
    assert len(lazy.collect()) == len(next(batches)) == 1
    del lazy, batches
    gc.collect()
    assert gone() is None
    assert descriptors() == before


def test_a_recording_is_closed_when_its_block_is_left(path: Path) -> None:
    before = descriptors()
    with TraceOutput(path, Header(SECTOR)) as output:
        op = Op(0, int(Kind.WRITE), length=SECTOR)
        output.store(op, b"x" * SECTOR)
        output.op(op)
        output.close(End(1, 0, 0, "clean"))
    with analysis.open(path) as t:
        assert t.bytes(0) == b"x" * SECTOR
        assert len(descriptors()) == len(before) + 3
    assert descriptors() == before
    t.close()


def test_marks_and_mismatches(path: Path) -> None:
    records = [
        Mark(0, 5, "boot"),
        Op(0, int(Kind.READ), length=512),
        Mismatch(0, Fault.BLOCK_STATUS, 512, 1024, 0, 5, 77, 1, b"\1" * 16),
        Mark(1, 9, "shutdown"),
    ]
    t = analysis.open(write(path, records))
    assert in_ns(t.marks).rows() == [(0, 5, "boot"), (1, 9, "shutdown")]
    assert in_ns(t.mismatches).rows() == [(0, "block_status", 512, 1024, 0, 5, 77, b"\1" * 16)]
    joined = t.mismatches.join(t.ops.collect(), on="seq")
    assert joined["kind"].to_list() == ["read"]


def test_settles_and_restarts(path: Path) -> None:
    records = [
        Op(0, int(Kind.READ), length=512),
        Settle(0, 512, 1024, 7, 5, b"\1" * 16),
        Settle(0, 0, 1, NO_SEQ, 6, b"\2" * 16),
        Restart(1, 9, "guest returned"),
    ]
    t = analysis.open(write(path, records))
    assert in_ns(t.settles).rows() == [
        (0, 512, 1024, 7, 5, b"\1" * 16),
        (0, 0, 1, None, 6, b"\2" * 16),
    ]
    assert in_ns(t.restarts).rows() == [(1, 9, "guest returned")]
    assert (t.settles.schema, t.restarts.schema) == (SETTLES, RESTARTS)
    assert t.count == 1


def test_a_mark_with_a_number_of_64_bits_is_refused(path: Path) -> None:
    t = analysis.open(write(path, [Mark(1 << 63, 0, "m")]))
    with pytest.raises(TraceError, match="more than 63 bits"):
        _ = t.marks


def test_a_trace_without_ops(path: Path) -> None:
    t = analysis.open(write(path, [], end=None))
    assert t.ops.collect().schema == OPS
    assert t.count == len(t.marks) == len(t.mismatches) == len(t.history(0)) == 0


SMALL = 16 * SECTOR


@pytest.mark.slow
@rewritten
@given(st.lists(ops(SMALL), max_size=12), st.integers(0, 15))
def test_history_and_writers_of_a_sector(path: Path, many: list[Op], sector: int) -> None:
    in_order = [replace(op, seq=seq) for seq, op in enumerate(many)]
    t = analysis.open(write(path, as_recorded(in_order), SMALL))
    touching = [
        (seq, op)
        for seq, op in enumerate(many)
        if op.length and op.offset // SECTOR <= sector <= (op.end - 1) // SECTOR
    ]
    changing = [seq for seq, op in touching if op.kind in MUTATING and not op.refused]
    assert t.history(sector).equals(
        t.ops.filter(pl.col("seq").is_in([seq for seq, _ in touching])).collect()
    )
    writers = t.writers(sector)
    assert writers["seq"].to_list() == changing
    assert writers["last"].to_list() == [seq == changing[-1] for seq in changing]
    assert writers.drop("last").schema == OPS


def test_writers_names_the_kinds_that_change_data(path: Path) -> None:
    kinds = [kind for kind in Kind if kind != Kind.FLUSH]
    many = [Op(seq, int(kind), length=SECTOR) for seq, kind in enumerate(kinds)]
    t = analysis.open(write(path, many, SMALL))
    assert t.writers(0)["kind"].to_list() == WRITERS == ["write", "trim", "zero", "start"]
    assert len(t.history(0)) == len(many)


@pytest.mark.parametrize(
    ("offset", "length", "sectors"),
    [
        (512, 512, [1]),
        (512, 1024, [1, 2]),
        (511, 1, [0]),
        (511, 2, [0, 1]),
        (1023, 514, [1, 2, 3]),
    ],
)
def test_an_op_touches_the_sectors_of_its_bytes_and_no_others(
    path: Path, offset: int, length: int, sectors: list[int]
) -> None:
    t = analysis.open(write(path, [Op(0, int(Kind.WRITE), 0, offset, length)], SMALL))
    assert t.ops.select("sector", "sectors").collect().row(0) == (sectors[0], len(sectors))
    assert [sector for sector in range(t.sectors) if len(t.history(sector))] == sectors


def test_a_flush_touches_no_sector(path: Path) -> None:
    t = analysis.open(write(path, [Op(0, int(Kind.FLUSH))], SMALL))
    assert t.ops.select("sectors").collect().item() == 0
    assert all(t.history(sector).is_empty() for sector in range(t.sectors))


@pytest.mark.parametrize("sector", [-1, 16])
def test_a_sector_beyond_the_disk(path: Path, sector: int) -> None:
    t = analysis.open(write(path, [], SMALL))
    with pytest.raises(UsageError, match=f"there is no sector {sector}: the disk's last is 15"):
        t.writers(sector)
