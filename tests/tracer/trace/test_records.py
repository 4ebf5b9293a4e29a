"""Records are checked and ordered by block; what that must not change, whatever a trace holds."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import analysis
from analysis.frames import records
from tests.kit.traces import as_recorded, write_trace
from tracer.errors import TraceError
from tracer.op import NO_TIME, Kind, Op
from tracer.trace.file import Trace
from tracer.trace.records import KNOWN_FLAGS, RECORD_SIZE, Mark

SIZE = 1 << 40
TILE = records._TILE

rewritten = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.trace"


def write(path: Path, many: list[Op | Mark]) -> Path:
    return write_trace(path, many, SIZE, end=None)


def some(count: int) -> list[Op | Mark]:
    """Ops that use all bits that an op may use."""
    top = (1 << 63) - 1
    longest = replace(
        Op(0, int(Kind.ZERO), KNOWN_FLAGS, 0, (1 << 32) - 1), submitted=top, completed=top
    )
    longest = replace(
        longest, reference_ns=top, test_ns=top, reference_status=65535, digest=b"\xff" * 16
    )
    return [
        replace(longest, seq=seq)
        if seq > count // 2
        else Op(seq, int(Kind.WRITE), 0, seq, 1, seq, seq + 9)
        for seq in range(count)
    ]


@pytest.mark.parametrize("count", [TILE, 2 * TILE, TILE + 1, TILE - 1])
def test_whole_tiles_are_read_as_single_records_are(path: Path, count: int) -> None:
    t = analysis.open(write(path, some(count)))
    assert t.ops.select("seq").collect()["seq"].to_list() == list(range(count))
    assert t.count == count
    assert t.last == count - 1


@rewritten
@given(st.integers(0, 2 * TILE - 1), st.integers(0, RECORD_SIZE - 1), st.integers(0, 7))
def test_one_changed_bit_in_a_tile(path: Path, which: int, byte: int, bit: int) -> None:
    """It is refused where the reader refuses it, also among records that are all alike."""
    write(path, some(2 * TILE))
    content = bytearray(path.read_bytes())
    content[len(content) - (2 * TILE - which) * RECORD_SIZE + byte] ^= 1 << bit
    path.write_bytes(content)
    try:
        with Trace(path) as opened:
            wrong, read = None, list(opened.ops())
    except TraceError as error:
        wrong = str(error)
    t = analysis.open(path)
    if wrong is None:
        assert t.ops.collect()["seq"].sort().to_list() == sorted(op.seq for op in read)
    else:
        with pytest.raises(TraceError) as raised:
            _ = t.count
        assert str(raised.value) == wrong


def test_ops_that_never_completed_among_many(path: Path) -> None:
    many = some(TILE)
    many[-1] = Op(TILE - 1, int(Kind.FLUSH), submitted=many[-1].submitted, completed=NO_TIME)
    frame = analysis.open(write(path, many)).ops.collect()
    assert frame.filter(pl.col("completed").is_null())["seq"].to_list() == [TILE - 1]
    measured = frame.filter(pl.col("completed") > pl.col("submitted"))
    assert frame["latency"].drop_nulls().len() == measured.height < TILE


@pytest.mark.slow
@rewritten
@given(st.permutations(range(40)), st.integers(1, 9), st.sets(st.integers(0, 40), max_size=3))
def test_any_order_in_any_blocks(path: Path, order: list[int], block: int, marks: set[int]) -> None:
    many: list[Op | Mark] = [Op(seq, int(Kind.WRITE), 0, seq, 1, seq, seq + 9) for seq in order]
    for place in sorted(marks, reverse=True):
        many.insert(place, Mark(0, 0, "m"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "BLOCK", block)
        t = analysis.open(write(path, as_recorded(many)))
        batches = [len(batch) for batch in t.batches()]
        assert t.ops.collect()["offset_bytes"].to_list() == list(range(40))
        assert t.ops.filter(pl.col("seq") % 7 == 3).collect()["seq"].to_list() == [
            3,
            10,
            17,
            24,
            31,
            38,
        ]
        assert [t.versions(range(1))["seq"].len(), t.last] == [41, 39]
    assert sum(batches) == 40
    assert len(batches) == -(-len(many) // block)


def test_what_is_in_order_nearly_comes_in_many_batches(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what may still have to wait for others does."""
    monkeypatch.setattr(records, "BLOCK", 10)
    many: list[Op | Mark] = [Op(seq ^ 1, int(Kind.FLUSH), submitted=seq ^ 1) for seq in range(100)]
    batches = [
        batch.fields(["seq"])["seq"].tolist()
        for batch in analysis.open(write(path, many)).batches()
    ]
    assert batches == [list(range(at, at + 10)) for at in range(0, 100, 10)]


def test_a_trace_that_is_cut_short_while_it_is_read(path: Path) -> None:
    t = analysis.open(write(path, some(10)))
    ops = t.ops
    os.truncate(path, path.stat().st_size - RECORD_SIZE)
    t._records._ops.cache_clear()
    with pytest.raises(
        (TraceError, pl.exceptions.PolarsError), match="was cut short while it was read"
    ):
        ops.collect()


def test_who_watches_is_told_of_every_record(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "BLOCK", 4)
    t = analysis.open(write(path, some(10)))
    told: list[int] = []
    t.watch = told.append
    assert t.records == 10
    t.ops.collect()
    assert sum(told) == 2 * t.records
    t.ops.collect()
    assert sum(told) == 3 * t.records


def test_columns_beyond_those_of_a_frame(path: Path) -> None:
    op = Op(0, int(Kind.FLUSH), reference_status=5, test_status=28, payload=(1 << 64) - 1)
    t = analysis.open(write(path, [op]))
    found = t._all.select("status", "reference_status", "test_status", "payload").collect()
    assert found.row(0) == (28, 5, 28, (1 << 64) - 1)
    assert np.array_equal(next(iter(t.batches())).fields(["test_status"])["test_status"], [28])
