"""Pictures of a part of a trace, in axes of the caller, and of very many ops."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import analysis
import blkbox
from analysis import plots
from analysis.frames.frames import Frames
from analysis.plots import bins
from analysis.plots.heatmap import _draw_side, ticks_of_counts
from analysis.plots.latency import LOWEST, SHARES
from analysis.plots.timeline import _LOW, _heights
from tests.kit.ops import DISK, some, some_ops
from tests.kit.traces import as_recorded, write_trace
from tracer.errors import UsageError
from tracer.op import SECTOR, Fault, Kind, Op
from tracer.trace.records import Mark, Mismatch

pytestmark = pytest.mark.slow

rewritten = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20
)  # the file is written anew by every example

Draw = Callable[..., Figure]
PICTURES = [plots.timeline, plots.latency, plots.throughput, plots.sizes, plots.heatmap]
every_picture = pytest.mark.parametrize("draw", PICTURES, ids=lambda draw: draw.__name__)


@pytest.fixture
def opened(path: Path) -> Frames:
    return analysis.open(write_trace(path, as_recorded(some(300)), DISK))


def cells(figure: Figure) -> dict[str, Any]:
    """What the panels of a timeline count, by kind."""
    return {
        axes.get_ylabel().replace("\n", ":").split(":")[0]: np.ma.filled(
            axes.images[0].get_array(), 0
        )
        for axes in figure.axes
        if axes.images
    }


# ---------------------------------------------------------------- a filtered frame


@every_picture
@pytest.mark.parametrize("eager", [False, True])
def test_a_filtered_frame_is_all_that_is_drawn(draw: Draw, opened: Frames, eager: bool) -> None:
    chosen = opened.ops.filter(pl.col("kind").is_in(["write", "read"]), pl.col("seq") < 100)
    ops = chosen.collect() if eager else chosen
    count = len(chosen.collect())
    assert f", {count} of 300 ops" in draw(opened, ops=ops).get_supxlabel()


def test_a_filtered_frame_has_only_its_kinds_and_its_time(opened: Frames) -> None:
    found = cells(plots.timeline(opened, ops=opened.ops.filter(kind="write")))
    assert list(found) == ["write"]
    late = opened.ops.filter(pl.col("seq") >= 200)
    axes = plots.timeline(opened, ops=late).axes[0]
    assert axes.images[0].get_extent()[0] == 200 * 10**5


def test_the_whole_frame_gives_the_same_picture(opened: Frames) -> None:
    whole, same = plots.timeline(opened), plots.timeline(opened, ops=opened.ops.collect())
    assert {kind: counts.tolist() for kind, counts in cells(whole).items()} == {
        kind: counts.tolist() for kind, counts in cells(same).items()
    }


WRONG: dict[str, tuple[Callable[[Frames], Any], str]] = {
    "a number": (lambda t: 3, "ops= wants a polars frame of ops, not a int"),
    "no kind": (lambda t: t.ops.drop("kind"), "needs the column 'kind', which ops= lacks"),
    "a cast": (
        lambda t: t.ops.with_columns(pl.col("submitted").to_physical()),
        r"the column 'submitted' of ops= has the dtype Int64; it is Duration",
    ),
    "no such column": (
        lambda t: t.ops.filter(pl.col("size") > 3),
        r"ops= is a query that fails: .*size",
    ),
    "an aggregate": (lambda t: t.ops.group_by("kind").len(), "needs the column 'seq'"),
}


@every_picture
@pytest.mark.parametrize("wrong", WRONG)
def test_a_frame_that_cannot_be_drawn(draw: Draw, opened: Frames, wrong: str) -> None:
    make, told = WRONG[wrong]
    with pytest.raises(UsageError, match=told):
        draw(opened, ops=make(opened))


@every_picture
def test_a_frame_in_place_of_a_trace(draw: Draw, opened: Frames) -> None:
    with pytest.raises(UsageError, match="not of a LazyFrame: open the trace, and give"):
        draw(opened.ops)


# ---------------------------------------------------------------- a part of the disk


@rewritten
@given(some_ops(), st.data())
def test_a_part_of_the_disk_has_the_ops_that_touch_it(
    path: Path, many: list[Op], data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, DISK // SECTOR - 1))
    last = data.draw(st.integers(first, DISK // SECTOR - 1))
    t = analysis.open(write_trace(path, as_recorded(many), DISK))
    start, end = first * SECTOR, (last + 1) * SECTOR
    inside = [op for op in many if op.length and op.offset < end and op.end > start]
    figure = plots.timeline(t, sectors=range(first, last + 1))
    assert f", {len(inside)} of {len(many)} op" in figure.get_supxlabel()
    found = cells(figure)
    assert set(found) == {Kind(op.kind).label for op in inside}
    for axes in figure.axes:
        if axes.images:
            left, right, bottom, top = axes.images[0].get_extent()
            kind = axes.get_ylabel().split("\n")[0]
            counts = found[kind]
            height, width = (top - bottom) / len(counts), (right - left) / counts.shape[1]
            assert bottom == start
            expected = np.zeros(counts.shape)
            for op in inside:
                if Kind(op.kind).label == kind:
                    rows = (
                        np.array([max(op.offset, start), min(op.end, end) - 1]) - start
                    ) // height
                    column = int((op.submitted - left) // width)
                    expected[int(rows[0]) : int(rows[1]) + 1, column] += 1
            assert np.array_equal(counts, expected)


def test_a_heat_map_of_a_part_counts_its_bytes(path: Path) -> None:
    write = Op(0, int(Kind.WRITE), 0, 0, 64 * SECTOR, 0, 5)
    t = analysis.open(write_trace(path, [write], DISK))
    figure = plots.heatmap(t, sectors=range(60, 100))
    counts = np.ma.filled(figure.axes[0].images[0].get_array(), 0)
    assert counts.sum() == pytest.approx(4)  # sectors 60 to 63, each a row
    assert len(counts) == 40
    assert "at sector 60, once" in figure.get_supxlabel()


def test_differences_outside_of_the_part_are_left_out(path: Path) -> None:
    reads = [Op(seq, int(Kind.READ), 0, 0, DISK, seq, seq + 1) for seq in range(2)]
    wrong = [
        Mismatch(seq, Fault.DATA, at, 9, 0, 0, 1, 1, bytes(16)) for seq, at in ((0, 7), (1, 5120))
    ]
    t = analysis.open(write_trace(path, [*reads, *wrong], DISK))
    axes = plots.timeline(t, sectors=range(10, 20)).axes[0]
    (cross,) = [line for line in axes.lines if line.get_marker() == "x"]
    assert list(cross.get_ydata()) == [5120]


def test_marks_before_the_part_take_no_room(path: Path) -> None:
    records: list[Any] = [*some(100), *(Mark(1, 10**5 + at, f"early {at}") for at in range(20))]
    records.append(Mark(60, 60 * 10**5, "late"))
    t = analysis.open(write_trace(path, as_recorded(records), DISK))
    late = t.ops.filter(pl.col("seq") >= 50)
    for draw in (plots.timeline, plots.heatmap, plots.throughput, plots.latency):
        found = [text.get_text() for axes in draw(t, ops=late).axes for text in axes.texts]
        assert found == ["late"]


@every_picture
@pytest.mark.parametrize("sectors", [range(0), range(0, 9, 2), range(-1, 3), range(16_385), 7])
def test_sectors_that_the_disk_does_not_have(draw: Draw, opened: Frames, sectors: Any) -> None:
    with pytest.raises(UsageError, match=r"there are no sectors|sectors are a range such as"):
        draw(opened, sectors=sectors)


# ---------------------------------------------------------------- the caller's axes


def drawn_into(axes: Axes) -> bool:
    return bool(axes.images or axes.lines or axes.patches)


@every_picture
def test_a_picture_goes_into_the_callers_axes_and_nowhere_else(
    draw: Draw, opened: Frames, path: Path
) -> None:
    figure = Figure(layout="constrained")
    other, mine = figure.subplots(1, 2)
    assert draw(opened, ax=mine) is figure
    assert drawn_into(mine)
    assert mine.get_xlabel()
    assert not drawn_into(other)
    assert figure.get_suptitle() == ""
    plots.save(figure, path.with_suffix(".png"))


@every_picture
def test_axes_say_why_they_are_empty(draw: Draw, opened: Frames) -> None:
    axes = Figure().subplots()
    draw(opened, ops=opened.ops.filter(pl.col("seq") < 0), ax=axes)
    assert len(axes.texts) == 1


@every_picture
def test_axes_of_another_kind(draw: Draw, opened: Frames) -> None:
    with pytest.raises(UsageError, match="ax= wants one matplotlib Axes, not a ndarray"):
        draw(opened, ax=Figure().subplots(1, 2))


def test_every_kind_is_in_the_callers_axes(opened: Frames) -> None:
    axes = Figure().subplots()
    plots.timeline(opened, ax=axes)
    assert len(axes.images) == len(plots.timeline(opened).axes) - 1  # one has the scale
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert sum(int(name.split(": ")[1]) for name in names) == 300


def test_the_public_function_draws_and_writes(path: Path, opened: Frames) -> None:
    picture = path.with_name("p.png")
    assert isinstance(blkbox.plot("sizes", path, picture, dpi=30), Figure)
    assert picture.read_bytes().startswith(b"\x89PNG")
    axes = Figure().subplots()
    assert blkbox.plot("heatmap", opened, ax=axes) is axes.figure
    with pytest.raises(UsageError, match="exists"):
        blkbox.plot("sizes", opened, picture)
    with pytest.raises(UsageError, match="'pie' is not a picture: write one of timeline, "):
        blkbox.plot("pie", opened)


# ---------------------------------------------------------------- very many ops, and few


@pytest.mark.parametrize(
    ("filled", "median", "merged"),
    [
        (0.1, 1, (1, 1)),  # few cells: each is seen by itself
        (1, 30, (1, 1)),
        (1, 13, (2, 1)),
        (1, 6, (4, 2)),
        (1, 1, (6, 2)),
    ],
)
def test_crowded_cells_are_merged_until_chance_is_small(
    filled: float, median: int, merged: tuple[int, int]
) -> None:
    counts = np.zeros(1000)
    counts[: int(1000 * filled)] = median
    columns, rows = found = bins.too_fine([np.zeros(10), counts])
    assert found in bins.MERGED
    assert columns * rows >= merged[0] * merged[1] / 2
    assert found == merged or median == 6


def test_random_ops_at_high_density_do_not_look_like_noise(path: Path) -> None:
    chance = np.random.default_rng(1)
    many = [
        Op(seq, int(Kind.WRITE), 0, int(at) * SECTOR, SECTOR, seq * 1000, seq * 1000 + 9)
        for seq, at in enumerate(chance.integers(0, DISK // SECTOR, 100_000))
    ]
    t = analysis.open(write_trace(path, as_recorded(many), DISK))
    for figure in (plots.timeline(t), plots.heatmap(t)):
        counts = np.ma.filled(figure.axes[0].images[0].get_array(), 0)[:, :-1]
        assert (counts > 0).all(), "no holes"
        assert counts.std() / counts.mean() < 0.35
    assert cells(plots.timeline(t))["write"].sum() == len(many)


def test_merged_cells_of_a_heat_map_have_every_byte(path: Path) -> None:
    chance = np.random.default_rng(2)
    many = [
        Op(seq, int(Kind.WRITE), 0, int(at), int(length), seq, seq + 1)
        for seq, (at, length) in enumerate(
            zip(
                chance.integers(0, DISK - 99_999, 9000),
                chance.integers(1, 99_999, 9000),
                strict=True,
            )
        )
    ]
    axes = plots.heatmap(analysis.open(write_trace(path, as_recorded(many), DISK))).axes[0]
    counts = np.ma.filled(axes.images[0].get_array(), 0)
    height = axes.images[0].get_extent()[3] / len(counts)
    assert height > bins.part(DISK, 160), "the cells were merged"
    there = np.minimum(height, DISK - np.arange(len(counts)) * height)
    assert (counts.sum(axis=1) * there).sum() == pytest.approx(sum(op.length for op in many))


def test_panels_are_as_tall_as_their_ops_deserve() -> None:
    heights = _heights({"read": 400, "write": 10_000, "trim": 3, "flush": 9999})
    assert heights["write"] > heights["read"] >= heights["trim"] > heights["flush"]
    assert heights["trim"] == _LOW
    (alone,) = _heights({"write": 3}).values()
    assert alone > heights["write"]


@pytest.mark.parametrize("highest", [2, 3, 96, 1e3, 5e6, 1e12])
def test_ticks_of_the_heat_maps_side_do_not_collide(path: Path, highest: float) -> None:
    """Drawn, no label touches the next."""
    figure = Figure(figsize=(12, 6), layout="constrained")
    _, axes = figure.subplots(1, 2, width_ratios=[5, 1])

    _draw_side(axes, 0, np.array([0, 4096]), np.array([1.0]), np.array([int(highest / 1.5)]), 4096)
    plots.save(figure, path.with_suffix(".png"))
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert len(boxes) == len(ticks_of_counts(max(2, int(highest / 1.5) * 1.5)))
    assert all(one.x1 < after.x0 for one, after in pairwise(boxes))


# ---------------------------------------------------------------- latency


def test_the_tail_is_drawn_to_one_in_ten_thousand(path: Path) -> None:
    many = [
        Op(seq, int(Kind.READ), 0, 0, 512, seq, seq + 1, 10, 10**7 if seq < 2 else 1000)
        for seq in range(20_000)
    ]
    axes, *_ = plots.latency(analysis.open(write_trace(path, as_recorded(many), DISK))).axes
    assert (
        axes.get_legend().get_title().get_text().startswith("read: 20,000 (median / 99 % / 99.99 %")
    )
    label = axes.get_legend().get_texts()[0].get_text()
    assert label.endswith(" / 10 ms"), label
    assert SHARES[-1] == 0.9999
    assert axes.get_ylim()[0] == LOWEST
    places = axes.transData.transform([(1, share) for share in SHARES])[:, 1]
    assert min(np.diff(places)) > 10, "each power of ten of the tail has room"


def test_latency_over_time_is_in_the_step_of_its_op(path: Path) -> None:
    many = [
        Op(
            seq,
            int(Kind.READ),
            0,
            0,
            512,
            seq * 10**6,
            seq * 10**6 + 1,
            0,
            10**7 if seq == 77 else 1000,
        )
        for seq in range(100)
    ]
    figure = plots.latency(analysis.open(write_trace(path, as_recorded(many), DISK)))
    axes = figure.axes[-1]
    (image,) = axes.images
    counts = np.ma.filled(image.get_array(), 0)
    assert counts.sum() == 100
    left, right, bottom, top = image.get_extent()
    row, column = np.argwhere(counts[len(counts) // 2 :])[-1]
    assert left + column * (right - left) / counts.shape[1] == pytest.approx(77e6, abs=5e6)
    assert bottom <= 3
    assert top > 7
    assert row >= 0


def test_without_measured_sides_the_guests_wait_is_drawn(path: Path) -> None:
    many = [Op(seq, int(Kind.READ), 0, 0, 512, seq * 100, seq * 100 + 50) for seq in range(9)]
    figure = plots.latency(analysis.open(write_trace(path, as_recorded(many), DISK)))
    assert figure.axes[0].get_legend().get_texts()[0].get_text().startswith("guest: 50 ns")
    assert figure.axes[-1].get_ylabel() == "latency, guest"
