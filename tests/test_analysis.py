"""Frames say what a plain loop over the records says; pictures show what the verdict says."""

import gc
import os
import random
import subprocess
import sys
import weakref
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import analysis
from analysis import plots, records
from analysis.columns import OPS, WRITERS
from analysis.frames import Recording
from analysis.records import OP_DTYPE
from tracer.errors import TraceError, UsageError
from tracer.op import MUTATING, NO_TIME, SECTOR, Flag, Kind, Op
from tracer.trace import (
    KNOWN_FLAGS,
    RECORD_SIZE,
    End,
    Fault,
    Header,
    Mark,
    Mismatch,
    Trace,
    TraceWriter,
    pack_op,
)

# the file is written anew by every example
rewritten = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

SIZE = 1 << 40
flags = st.integers(0, KNOWN_FLAGS)
u16, u32, u63, u64 = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 63, 64))


@st.composite
def ops(draw: st.DrawFn, size: int = SIZE, times: st.SearchStrategy[int] = u63) -> Op:
    kind = int(draw(st.sampled_from(Kind)))
    length = draw(st.integers(0 if kind == Kind.FLUSH else 1, min(size, 32 << 20)))
    return Op(
        draw(u63), kind, draw(flags), draw(st.integers(0, size - length)), length,
        draw(times), draw(times | st.just(NO_TIME)), draw(u63), draw(u63), draw(u16), draw(u16),
        draw(u32), draw(u64), draw(st.binary(min_size=16, max_size=16)),
    )  # fmt: skip


def numbered(many: Iterable[Op]) -> list[Op]:
    return [replace(op, seq=seq) for seq, op in enumerate(many)]


def numbers(op: Op) -> list[int]:
    """What may not have more than 63 bits."""
    completed = 0 if op.completed == NO_TIME else op.completed
    return [op.seq, op.submitted, completed, op.reference_ns, op.test_ns]


def write(path: Path, records: Iterable[Any], size: int = SIZE, closed: bool = True) -> Path:
    writer = TraceWriter(path, Header(size))
    for record in records:
        if isinstance(record, Op):
            writer.write([pack_op(record)])
        elif isinstance(record, Mark):
            writer.mark(record)
        else:
            writer.mismatch(record)
    writer.close(End(0, 0, 0, "clean"))
    if not closed:
        os.truncate(path, path.stat().st_size - RECORD_SIZE)
    return path


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
                "offset": offset,
                "length": length,
                "sector": first,
                "sectors": end - first if length else 0,
                "flags": flags,
                "submitted": submitted,
                "completed": done,
                "latency": None if done is None else done - submitted,
                "in_flight": sum(
                    other[6] <= submitted and max(other[6], other[7]) >= submitted for other in together
                ),
                "status": test_status or reference_status,
                "reference_ns": ours,
                "test_ns": theirs,
                "digest": digest.hex(),
                "connection": connection,
            }
        )
    return rows


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few ops are several batches."""
    monkeypatch.setattr(records, "BLOCK", 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.trace"


# ---------------------------------------------------------------- frames


def test_importing_analysis_does_not_load_matplotlib() -> None:
    told = "import sys, analysis; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", told], check=False).returncode == 0


def test_plots_need_no_display() -> None:
    told = "import sys, analysis.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", told], check=False).returncode == 0


def test_the_dtype_is_the_twin_of_the_record() -> None:
    op = Op(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, b"0123456789abcde\0")
    assert OP_DTYPE.itemsize == RECORD_SIZE
    (record,) = np.frombuffer(pack_op(op), OP_DTYPE)
    assert [record[name] for name in OP_DTYPE.names or ()][:-1] == [1, *range(1, 14)]
    assert record["digest"].tobytes() == op.digest


@rewritten
@given(st.lists(ops() | st.builds(Mark, u63, u63, st.just("m")), max_size=12), st.booleans())
def test_the_frame_is_what_a_loop_makes_of_the_records(
    path: Path, records: list[Op | Mark], closed: bool
) -> None:
    expected = rows_of(write(path, records, closed=closed))
    t = analysis.open(path)
    frame = t.ops.collect()
    assert frame.schema == OPS
    assert frame.to_dicts() == expected
    assert t.count == len(expected)
    assert t.closed == closed


@rewritten
@given(st.lists(ops(times=st.integers(0, 6)), max_size=12))
def test_in_flight_counts_what_was_submitted_and_not_completed(path: Path, many: list[Op]) -> None:
    """Few moments, so that ops share them: what completes as another is submitted is still there."""
    expected = [row["in_flight"] for row in rows_of(write(path, many))]
    assert analysis.open(path).ops.select("in_flight").collect()["in_flight"].to_list() == expected


@rewritten
@given(st.lists(ops(), max_size=10), st.integers(0, 12), st.integers(0, 12), st.sampled_from(Kind), u63)
def test_queries_find_what_they_find_in_the_collected_frame(
    path: Path, many: list[Op], start: int, count: int, kind: Kind, least: int
) -> None:
    lazy = analysis.open(write(path, numbered(many))).ops
    whole = lazy.collect()
    big = pl.col("submitted") >= least
    assert lazy.filter(big).head(count).collect().equals(whole.filter(big).head(count))
    assert lazy.head(count).filter(big).collect().equals(whole.head(count).filter(big))
    assert lazy.slice(start, count).collect().equals(whole.slice(start, count))
    assert lazy.tail(count).select("digest").collect().equals(whole.tail(count).select("digest"))
    assert lazy.filter(kind=kind.label).collect().equals(whole.filter(kind=kind.label))
    assert lazy.filter(big).select("in_flight").collect().equals(whole.filter(big).select("in_flight"))
    assert lazy.select(pl.len()).collect().item() == len(whole)


@rewritten
@given(st.lists(ops(), min_size=1, max_size=8), st.integers(1, RECORD_SIZE - 1))
def test_a_torn_trace_reads_up_to_its_last_whole_record(path: Path, many: list[Op], kept: int) -> None:
    whole = write(path, many, closed=False).read_bytes()
    path.write_bytes(whole[: len(whole) - RECORD_SIZE])
    expected = rows_of(path)
    path.write_bytes(whole[: len(whole) - RECORD_SIZE + kept])
    t = analysis.open(path)
    assert t.ops.collect().to_dicts() == expected
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
    content = bytearray(write(path, many).read_bytes())
    which = data.draw(st.integers(0, len(many) - 1))
    content[len(content) - (len(many) + 1 - which) * RECORD_SIZE + at] = byte
    path.write_bytes(content)
    try:
        read = list(Trace(path).ops())
        good = all(number < 1 << 63 for op in read for number in numbers(op))
    except TraceError:
        good = False
    t = analysis.open(path)
    if good:
        assert t.ops.collect().to_dicts() == rows_of(path)
    else:
        with pytest.raises(TraceError, match="no record where one should be, at byte"):
            _ = t.ops


@pytest.mark.parametrize("name", ["seq", "submitted", "completed", "reference_ns", "test_ns"])
@pytest.mark.parametrize("number", [1 << 63, (1 << 64) - 2])
def test_a_number_of_64_bits_is_refused(path: Path, number: int, name: str) -> None:
    op = Op(0, int(Kind.WRITE), length=1)
    setattr(op, name, number)
    with pytest.raises(TraceError, match="no record"):
        _ = analysis.open(write(path, [op])).ops


def test_a_file_that_is_no_trace(path: Path) -> None:
    path.write_bytes(b"no trace at all")
    with pytest.raises(TraceError, match="is not a trace"):
        analysis.open(path)


def test_a_recording_that_is_no_longer_used_is_closed(path: Path) -> None:
    t = analysis.open(write(path, [Op(0, int(Kind.WRITE), length=1)]))
    assert len(t.ops.collect()) == len(t.history(0)) == 1
    gone = weakref.ref(t)
    del t
    gc.collect()
    assert gone() is None


def test_marks_and_mismatches(path: Path) -> None:
    records = [
        Mark(0, 5, "boot"),
        Op(0, int(Kind.READ), length=512),
        Mismatch(0, Fault.BLOCK_STATUS, 512, 1024, 0, 5, 77, 1, b"\1" * 16),
        Mark(1, 9, "shutdown"),
    ]
    t = analysis.open(write(path, records))
    assert t.marks.rows() == [(0, 5, "boot"), (1, 9, "shutdown")]
    assert t.mismatches.rows() == [(0, "block_status", 512, 1024, 0, 5, 77, "01" * 16)]
    joined = t.mismatches.join(t.ops.collect(), on="seq")
    assert joined["kind"].to_list() == ["read"]


def test_a_mark_with_a_number_of_64_bits_is_refused(path: Path) -> None:
    t = analysis.open(write(path, [Mark(1 << 63, 0, "m")]))
    with pytest.raises(TraceError, match="more than 63 bits"):
        _ = t.marks


def test_a_trace_without_ops(path: Path) -> None:
    t = analysis.open(write(path, [], closed=False))
    assert t.ops.collect().schema == OPS
    assert t.count == len(t.marks) == len(t.mismatches) == len(t.history(0)) == 0


SMALL = 16 * SECTOR


@rewritten
@given(st.lists(ops(SMALL), max_size=12), st.integers(0, 15))
def test_history_and_writers_of_a_sector(path: Path, many: list[Op], sector: int) -> None:
    t = analysis.open(write(path, numbered(many), SMALL))
    touching = [
        (seq, op)
        for seq, op in enumerate(many)
        if op.length and op.offset // SECTOR <= sector <= (op.end - 1) // SECTOR
    ]
    changing = [
        seq
        for seq, op in touching
        if op.kind in MUTATING
        and not (op.flags & Flag.FAST_ZERO and (op.test_status or op.reference_status))
    ]
    assert t.history(sector).equals(
        t.ops.filter(pl.col("seq").is_in([seq for seq, _ in touching])).collect()
    )
    writers = t.writers(sector)
    assert writers["seq"].to_list() == changing
    assert writers["last"].to_list() == [seq == changing[-1] for seq in changing]
    assert writers.drop("last").schema == OPS


def test_writers_names_the_kinds_that_change_data(path: Path) -> None:
    many = [Op(seq, int(kind), length=SECTOR) for seq, kind in enumerate(Kind)]
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


def test_a_flush_touches_no_sector_wherever_it_is(path: Path) -> None:
    t = analysis.open(write(path, [Op(0, int(Kind.FLUSH), 0, 600, 0)], SMALL))
    assert t.ops.select("sectors").collect().item() == 0
    assert all(t.history(sector).is_empty() for sector in range(t.sectors))


@pytest.mark.parametrize("sector", [-1, 16])
def test_a_sector_beyond_the_disk(path: Path, sector: int) -> None:
    t = analysis.open(write(path, [], SMALL))
    with pytest.raises(UsageError, match=f"there is no sector {sector}: the disk's last is 15"):
        t.writers(sector)


# ---------------------------------------------------------------- the damage plot

GIB = 1 << 30
VERMILLION = to_rgb("#D55E00")


def write_op(seq: int, sector: int, sectors: int = 8, kind: Kind = Kind.WRITE, **more: Any) -> Op:
    times = {"submitted": 10 * seq, "completed": 10 * seq + 5} | more
    return Op(seq, int(kind), 0, sector * SECTOR, sectors * SECTOR, **times)


def verdict(culprit: Op | None = None, size: int = GIB, **more: Any) -> dict[str, Any]:
    """What ``trace replay --json`` prints; ranges are pairs of sector and sectors."""
    told: dict[str, Any] = {
        "schema": 1, "verdict": "damaged", "driver": "qcow2", "trace": "some.trace", "size": size,
        "ops": 1, "replayed_ops": 1, "culprit": None, "damage": [], "culprit_damage": [],
        "first_bad_read": None, "reason": "the image is wrong at the end",
    }  # fmt: skip
    if culprit is not None:
        told["culprit"] = {
            "seq": culprit.seq, "kind": Kind(culprit.kind).label, "offset": culprit.offset,
            "length": culprit.length, "flags": ["FUA"],
        }  # fmt: skip
    for name in ("damage", "culprit_damage"):
        more[name] = [{"sector": at, "sectors": count} for at, count in more.get(name, [])]
    return told | more


def draw(path: Path, many: list[Op], told: dict[str, Any]) -> Figure:
    """The figure, drawn once so that nothing about it is left to be found out, nor warned of."""
    figure = plots.damage(analysis.open(write(path, many, told["size"])), told)
    plots.save(figure, path.with_suffix(".png"))
    return figure


def labels(axes: Axes) -> list[str]:
    return [tick.get_text() for tick in axes.get_yticklabels()]


def title(axes: Axes) -> str:
    return axes.get_title(loc="left")


def words(figure: Figure) -> str:
    """The headline, and the line above the legend."""
    return figure.get_suptitle() + "\n" + figure.legends[0].get_title().get_text()


def damaged_boxes(axes: Axes) -> list[tuple[float, float]]:
    """From where to where what is drawn as damaged reaches."""
    found = []
    for collection in axes.collections:
        if isinstance(collection, PolyCollection):
            faces = np.atleast_2d(np.asarray(collection.get_facecolor()))
            if len(faces) and tuple(np.round(faces[0][:3], 3)) == tuple(np.round(VERMILLION, 3)):
                found += [one.get_extents() for one in collection.get_paths()]
    return [(box.x0, box.x1) for box in found]


def triangles(figure: Figure) -> int:
    lines = [line for line in figure.axes[0].lines if line.get_marker() == "v"]
    return sum(len(np.atleast_1d(np.asarray(line.get_xdata()))) for line in lines)


def test_one_damaged_sector_of_a_large_disk_is_visible(path: Path) -> None:
    size = (1 << 31) * SECTOR
    culprit = write_op(1, 1_000_000)
    many = [write_op(0, 1_000_000, 64), culprit, write_op(2, 1_000_004, 1, Kind.READ), write_op(3, 5)]
    figure = draw(
        path, many, verdict(culprit, size, damage=[(1_000_003, 1)], culprit_damage=[(1_000_003, 1)])
    )
    strip, panel = figure.axes
    ((left, right),) = damaged_boxes(strip)
    assert left < 1_000_003 < right
    assert right - left >= (1 << 31) / 400
    assert triangles(figure) == 1
    assert title(panel) == "culprit: sectors 1,000,000 to 1,000,007 FUA; damaged: sector 1,000,003"
    assert labels(panel) == ["#0 write", "#1 write", "#2 read"]
    ((left, right),) = damaged_boxes(panel)
    assert left <= 1_000_003
    assert right >= 1_000_004
    low, high = panel.get_xlim()
    assert high - low <= 4 * plots.CLUSTER
    assert "qcow2: damaged by #1 write" in words(figure)
    assert "shown: all 3 on these sectors" in words(figure)
    assert "#1 write" in [note.get_text() for note in panel.texts]
    assert title(strip) == "the image is wrong at the end"


def test_scattered_damage_is_counted_and_the_nearest_shown(path: Path) -> None:
    rng = random.Random(1)
    ranges = [(at + rng.randrange(1000), 8) for at in range(1000, 2_000_000, 50_000)]
    culprit = write_op(7, 651_000, 16)
    figure = draw(path, [culprit], verdict(culprit, damage=ranges))
    assert len(ranges) == triangles(figure) == 40
    near = min(ranges, key=lambda one: max(one[0] - 651_016, 651_000 - one[0] - 8))
    titles = [title(panel) for panel in figure.axes[1:]]
    assert any(one.endswith(f"damaged: sectors {near[0]:,} to {near[0] + 7:,}") for one in titles)
    assert any(one.startswith("culprit: sectors 651,000 to 651,015") for one in titles)
    assert "39 of 40 damaged ranges lie outside" in words(figure)


def test_damage_far_from_the_culprit_gets_a_view_of_its_own(path: Path) -> None:
    culprit = write_op(1, 1_000_000)
    many = [write_op(0, 300, 8), culprit, write_op(2, 300, 8, Kind.READ)]
    told = verdict(culprit, damage=[(300, 8)], first_bad_read={"seq": 2, "sector": 300})
    _, left, right = draw(path, many, told).axes
    assert title(left) == "damaged: sectors 300 to 307"
    assert title(right) == "culprit: sectors 1,000,000 to 1,000,007 FUA"
    assert labels(left) == ["#0 write", "#1 write", "#2 read"]
    assert left.get_ylim() == right.get_ylim()
    assert [note.get_text() for note in left.texts] == ["first wrong read"]
    assert [note.get_text() for note in right.texts] == ["#1 write"]


def test_huge_damage_is_shown_whole(path: Path) -> None:
    culprit = write_op(500, 700_000)
    many = [write_op(seq, 400_000 + seq * 600) for seq in range(1000) if seq != 500]
    figure = draw(path, [*many, culprit], verdict(culprit, damage=[(300_000, 614_400)]))
    _, panel = figure.axes
    low, high = panel.get_xlim()
    assert low <= 300_000
    assert high >= 914_400
    assert len(labels(panel)) == plots.MAX_ROWS
    assert "#500 write" in labels(panel)
    assert f"shown: {plots.MAX_ROWS} of the " in words(figure)
    assert "64 KiB" not in words(figure)


def test_the_rows_that_tell_most_are_kept(path: Path) -> None:
    """Among very many ops: the culprit, the first wrong read, what was in flight with the culprit, and
    the last that wrote what is damaged."""
    culprit = write_op(500, 96, 8, Kind.ZERO, completed=5_100)
    many = [write_op(seq, 100, 4, Kind.READ) for seq in range(1000) if seq != 500]
    many[3] = write_op(3, 120, 8)
    many[900] = write_op(901, 120, 8, Kind.READ)
    told = verdict(culprit, damage=[(120, 8)], first_bad_read={"seq": 901, "sector": 120})
    _, panel = draw(path, [*many, culprit], told).axes
    shown = labels(panel)
    assert len(shown) == plots.MAX_ROWS
    assert [shown[0], shown[-1]] == ["#3 write", "#901 read"]
    assert [f"∥ #{seq} read" for seq in range(501, 511)] == [one for one in shown if "∥" in one]
    assert "#500 zero" in shown


def test_a_flush_has_no_sectors_but_a_row(path: Path) -> None:
    culprit = write_op(2, 0, 0, Kind.FLUSH)
    told = verdict(culprit, damage=[(64, 8)])
    _, panel = draw(path, [write_op(0, 64), write_op(1, 4000), culprit], told).axes
    assert labels(panel) == ["#0 write", "#2 flush"]
    assert title(panel) == "damaged: sectors 64 to 71"
    assert [note.get_text() for note in panel.texts] == ["#2 flush"]


def test_a_crash_at_a_write_damages_nothing(path: Path) -> None:
    culprit = write_op(1, 64)
    told = verdict(culprit, verdict="failed", reason="the driver went away")
    figure = draw(path, [write_op(0, 60), culprit], told)
    _, panel = figure.axes
    assert triangles(figure) == 0
    assert damaged_boxes(panel) == []
    assert labels(panel) == ["#0 write", "#1 write"]
    assert words(figure).startswith("qcow2: failed at #1 write\n")


def test_a_crash_at_a_flush_shows_what_was_changed_last(path: Path) -> None:
    culprit = write_op(2, 0, 0, Kind.FLUSH)
    many = [write_op(0, 64), write_op(1, 9000, 4), culprit, write_op(3, 64)]
    many.append(write_op(4, 9001, 0, Kind.FLUSH))
    _, panel = draw(path, many, verdict(culprit, verdict="failed")).axes
    assert title(panel) == "changed last before it: sectors 9,000 to 9,003"
    assert labels(panel) == ["#1 write", "#2 flush"]


def test_damage_without_a_culprit(path: Path) -> None:
    many = [write_op(0, 64), write_op(1, 90_000), write_op(2, 90_000, 8, Kind.READ)]
    told = verdict(damage=[(64, 8), (90_000, 8)], first_bad_read={"seq": 2, "sector": 90_003})
    figure = draw(path, many, told)
    _, panel = figure.axes
    assert words(figure).startswith("qcow2: damaged\n")
    assert title(panel) == "damaged: sectors 90,000 to 90,007"
    assert labels(panel) == ["#1 write", "#2 read"]
    assert "1 of 2 damaged ranges lie outside" in words(figure)


def test_a_wrong_read_of_what_was_put_right_later(path: Path) -> None:
    many = [write_op(0, 64), write_op(1, 64, 8, Kind.READ)]
    told = verdict(first_bad_read={"seq": 1, "sector": 66})
    _, panel = draw(path, many, told).axes
    assert labels(panel) == ["#0 write", "#1 read"]


def test_nothing_to_look_at_closely_leaves_the_whole_disk(path: Path) -> None:
    told = verdict(verdict="clean", reason="no difference")
    figure = draw(path, [write_op(0, 64)], told)
    assert len(figure.axes) == 1
    assert words(figure) == "qcow2: clean\nsome.trace: 1.0 GiB, 1 ops"
    assert len(draw(path, [], told).axes) == 1


def test_what_the_culprit_alone_damaged_stands_out(path: Path) -> None:
    culprit = write_op(0, 64)
    told = verdict(culprit, damage=[(64, 8), (100, 8)], culprit_damage=[(64, 8)])
    figure = draw(path, [culprit], told)
    assert [text.get_text() for text in figure.legends[0].texts] == [
        "written", "damaged", "damaged by the culprit", "write",
    ]  # fmt: skip
    same = verdict(culprit, damage=[(64, 8)], culprit_damage=[(64, 8)])
    assert [text.get_text() for text in draw(path, [culprit], same).legends[0].texts] == [
        "written", "damaged", "write",
    ]  # fmt: skip


def test_every_kind_is_drawn_and_told_apart_without_colour(path: Path) -> None:
    kinds = [kind for kind in Kind if kind != Kind.FLUSH]
    many = [write_op(seq, 64, 8, kind) for seq, kind in enumerate(kinds)]
    figure = draw(path, many, verdict(many[1], damage=[(64, 1)]))
    entries = dict(
        zip(
            [text.get_text() for text in figure.legends[0].texts],
            figure.legends[0].get_patches(),
            strict=True,
        )
    )
    assert set(entries) == {"written", "damaged", *(kind.label for kind in kinds)}
    looks = {
        (entries[kind.label].get_hatch() or "", entries[kind.label].get_facecolor()) for kind in kinds
    }
    assert len(looks) == len(kinds)
    assert len({hatch for hatch, _ in looks}) == len(kinds) - 1, "read and write differ in lightness"


def test_names_are_text_and_nothing_more(path: Path) -> None:
    culprit = write_op(0, 64)
    told = verdict(culprit, driver="$\\frac$ \x1b[31m\n中", reason="$x_1$ " * 200)
    figure = draw(path, [culprit], told)
    assert words(figure).startswith("$\\frac$ [31m 中: damaged by #0 write\n")
    assert title(figure.axes[0]).count("\n") == 2
    assert title(figure.axes[0]).endswith(" ...")


@pytest.mark.parametrize("size", [SECTOR, 5 * SECTOR, 8 << 20, 10 * GIB, 1 << 50])
def test_disks_of_any_size(path: Path, size: int) -> None:
    culprit = write_op(0, size // SECTOR - 1, 1)
    strip, panel = draw(path, [culprit], verdict(culprit, size, damage=[(0, 1)])).axes[:2]
    assert 1 <= len(strip.get_xticks()) <= 9
    assert 1 <= len(panel.get_xticks()) <= 9
    assert strip.get_xlim() == (0, size // SECTOR)


@given(st.integers(1, 10_000), st.data())
def test_coarse_ranges_cover_what_is_there_and_nothing_far_from_it(
    size: int, data: st.DataObject
) -> None:
    starts = data.draw(st.lists(st.integers(0, size - 1), min_size=51, max_size=60))
    ranges = np.array([(at, min(size, at + 1 + at % 7)) for at in starts], np.int64)
    unit = -(-size // plots._COLUMNS)
    covered = {sector for start, end in plots._coarse(ranges, size) for sector in range(start, end)}
    there = {sector for start, end in ranges for sector in range(start, end)}
    assert there <= covered
    assert {sector // unit for sector in covered} == {sector // unit for sector in there}


@pytest.mark.parametrize(
    ("suffix", "magic"),
    [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")],
)
def test_saved_pictures_are_what_their_suffix_says(path: Path, suffix: str, magic: bytes) -> None:
    culprit = write_op(0, 64)
    told = verdict(culprit, damage=[(64, 8)])
    t: Recording = analysis.open(write(path, [culprit], GIB))
    pictures = []
    for _ in range(2):
        plots.save(plots.damage(t, told), path.with_suffix(suffix))
        pictures.append(path.with_suffix(suffix).read_bytes())
    assert pictures[0].startswith(magic)
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("name", ["damage.jpg", "damage", "damage.png.txt"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"must end in \.png, \.svg, \.pdf"):
        plots.save(Figure(), tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_verdict_about_another_trace_is_refused(path: Path) -> None:
    t = analysis.open(write(path, [write_op(0, 64)], GIB))
    with pytest.raises(UsageError, match="the verdict is about one of 512"):
        plots.damage(t, verdict(size=512))
    with pytest.raises(UsageError, match="has no op #9, which the verdict names"):
        plots.damage(t, verdict(write_op(9, 64)))
