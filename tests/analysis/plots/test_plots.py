"""Pictures show what the ops say: every one is counted, once, where it belongs."""

from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import analysis
from analysis import plots
from analysis.frames import records
from analysis.frames.frames import Frames
from analysis.plots import bins, style
from analysis.plots.heatmap import MAX_ROWS, block_size, block_writes, writes
from analysis.plots.latency import PER_DECADE, Spread
from analysis.plots.subject import subject_of
from analysis.plots.throughput import MAX_COLUMNS, completions, depths
from tests.kit.ops import DISK, GUEST, some, some_ops
from tests.kit.traces import write_trace
from tracer.op import NO_TIME, SECTOR, Fault, Kind, Op
from tracer.trace.records import Mark, Mismatch

rewritten = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30
)  # the file is written anew by every example


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few ops are several batches."""
    monkeypatch.setattr(records, "BLOCK", 7)


def opened(path: Path, records: list[Any], size: int = DISK) -> Frames:
    ops = [record for record in records if isinstance(record, Op)]
    others = [record for record in records if not isinstance(record, Op)]
    in_file = [*sorted(ops, key=lambda op: op.completed), *others]
    return analysis.open(write_trace(path, in_file, size))


def drawn(figure: Figure, path: Path) -> Figure:
    """Drawn once, so that nothing about it is left to be found out, nor warned of."""
    plots.save(figure, path.with_suffix(".png"))
    return figure


def cells(axes: Axes) -> Any:
    """What a panel's picture counts in its cells, the lowest offsets first."""
    (image,) = axes.images
    return np.ma.filled(image.get_array(), 0)


def words(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def label(axes: Axes) -> str:
    """A timeline's panel: its kind and how many ops it has."""
    return axes.get_ylabel().replace("\n", ": ")


def by_kind(figure: Figure) -> dict[str, Axes]:
    """A timeline's panels."""
    return {label(axes).split(":")[0]: axes for axes in figure.axes if axes.images}


# ---------------------------------------------------------------- timeline


@pytest.mark.slow
@rewritten
@given(some_ops())
def test_a_timeline_has_every_op_in_the_cells_that_it_touches(path: Path, many: list[Op]) -> None:
    figure = plots.timeline(opened(path, many))
    panels = by_kind(figure)
    assert set(panels) == {Kind(op.kind).label for op in many}
    for kind, axes in panels.items():
        here = [op for op in many if Kind(op.kind).label == kind]
        assert label(axes) == f"{kind}: {len(here)}"
        counts = cells(axes)
        left, right, _, top = axes.images[0].get_extent()
        rows, columns = counts.shape
        expected = np.zeros(counts.shape)
        for op in here:
            x = int((op.submitted - left) // ((right - left) / columns))
            height = top / rows
            last = int((max(op.end, op.offset + 1) - 1) // height)
            expected[0 if kind == "flush" else int(op.offset // height) : last + 1, x] += 1
        if kind == "flush":
            assert counts.sum() == len(here)
        else:
            assert np.array_equal(counts, expected)


def test_a_timeline_numbers_ops_and_names_moments(path: Path) -> None:
    records: list[Any] = some(100)
    wrong = next(op for op in records if op.kind == Kind.READ)
    records += [Mark(3, 300_000, "a $x_1$ \x1b[31m"), Mark(50, 5_000_000, "reboot")]
    records += [
        Mismatch(wrong.seq, Fault.DATA, wrong.offset + 7, 9, 0, 0, 1, 1, bytes(16)),
        Mismatch(100, Fault.FINAL, 0, 9, 0, 0, 1, 1, bytes(16)),
    ]
    figure = drawn(plots.timeline(opened(path, records)), path)
    assert words(figure) == ["a $x_1$ [31m", "reboot"]
    panels = by_kind(figure)
    crosses = {
        kind: [
            (x, y)
            for line in axes.lines
            if line.get_marker() == "x"
            for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
        ]
        for kind, axes in panels.items()
    }
    assert crosses.pop("read") == [(wrong.submitted, wrong.offset + 7)]
    assert not any(crosses.values())
    (above,) = figure.axes[0].child_axes
    times, span = above.get_xticks(), bins.times(subject_of(opened(path, records)), 120, 480, 3)
    for time, label in zip(times, above.get_xticklabels(), strict=True):
        # in the tick's own column, or after it
        start = span.edges[max(0, bisect_right(list(span.edges), time) - 1)]
        first = next((op.seq for op in records[:100] if op.submitted >= start), None)
        assert label.get_text() == ("" if first is None else f"#{first}")


def test_shades_of_all_colours_are_as_light_and_ever_darker() -> None:
    shades = {
        tuple(np.round(style.ramp(colour)(np.linspace(0, 1, 16))[:, :3] @ (0.299, 0.587, 0.114), 2))
        for colour, _ in style.LINES.values()
    }
    (lightness,) = shades
    assert all(np.diff(lightness) < 0)
    assert lightness[0] < 0.7, "one op must stand out on white"


def test_kinds_are_told_apart_without_colour() -> None:
    assert set(style.LINES) == set(style.ORDER) == {kind.label for kind in GUEST}
    assert len({str(dashes) for _, dashes in style.LINES.values()}) == len(style.LINES)
    fills = {hatch for kind, (_, hatch) in style.LOOKS.items() if kind != "read"}
    assert len(fills) == len(style.LOOKS) - 1, "read and write differ in lightness"


# ---------------------------------------------------------------- latency


@rewritten
@given(some_ops())
def test_latency_curves_are_the_distributions(path: Path, many: list[Op]) -> None:
    figure = plots.latency(opened(path, many))
    panels = {}
    for axes in figure.axes:
        if axes.lines:
            panels[axes.get_legend().get_title().get_text().split(":")[0]] = axes
    for kind in {Kind(op.kind).label for op in many}:
        for side in ("test", "reference"):
            times = sorted(
                getattr(op, f"{side}_ns")
                for op in many
                if Kind(op.kind).label == kind
                and op.completed != NO_TIME
                and getattr(op, f"{side}_ns")
            )
            lines = [
                line
                for line in (panels[kind].lines if kind in panels else [])
                if str(line.get_label()).startswith(side)
            ]
            assert len(lines) == (1 if times else 0)
            for line in lines:
                x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
                assert y[-1] == 1
                assert x[-1] == times[-1]
                for ns in times:
                    # every op is drawn by 1.2 % past its time, and none before
                    late = y[bisect_right(list(x), ns * 1.012) - 1]
                    assert late >= bisect_right(times, ns) / len(times) - 1e-9
                    early = bisect_right(list(x), ns * (1 - 1e-9))
                    assert early == 0 or y[early - 1] <= bisect_left(times, ns) / len(times) + 1e-9


@given(st.lists(st.integers(1, 1 << 62), min_size=1, max_size=50), st.sampled_from([0.5, 0.99, 1]))
def test_quantiles_are_right_to_a_percent(times: list[int], share: float) -> None:
    logs = np.floor(np.log10(np.array(times, float)) * PER_DECADE).astype(np.int64)
    places, counts = np.unique(logs, return_counts=True)
    found = Spread(places, counts, max(times)).quantile(share)
    exact = sorted(times)[max(0, int(np.ceil(share * len(times) - 1e-9)) - 1)]
    assert exact * (1 - 1e-9) <= found <= exact * 1.012 + 1e-9


# ---------------------------------------------------------------- throughput


@rewritten
@given(some_ops())
def test_throughput_and_depth_count_every_op(path: Path, many: list[Op]) -> None:
    t = subject_of(opened(path, many), None, None, "in_flight")
    span = bins.times(t, 1, MAX_COLUMNS, 2)
    assert span.start == many[0].submitted
    last = max(op.submitted if op.completed == NO_TIME else op.completed for op in many)
    assert last < span.end <= last + 1 + span.columns
    done = completions(t, span)
    for kind in GUEST:
        here = [op for op in many if op.kind == kind and op.completed != NO_TIME]
        ops, amount = done.get(kind.label, (np.zeros(1), np.zeros(1)))
        assert ops.sum() == len(here)
        assert amount.sum() == sum(op.length for op in here)
    mean, most = depths(t, span)
    ends = [span.end - 1 if op.completed == NO_TIME else op.completed for op in many]
    inside = sum(end - op.submitted for op, end in zip(many, ends, strict=True))
    assert mean.sum() * span.width == pytest.approx(inside)
    edges = span.edges
    for at, value in enumerate(most):
        came = [op for op in many if edges[at] <= op.submitted < edges[at + 1]]
        found = [
            sum(
                other.submitted <= op.submitted <= end
                for other, end in zip(many, ends, strict=True)
            )
            for op in came
        ]
        carried = sum(op.submitted < edges[at] <= end for op, end in zip(many, ends, strict=True))
        assert value == max([carried, *found])


def test_throughput_draws_rates_in_units(path: Path) -> None:
    many = [
        Op(seq, int(Kind.WRITE if seq % 2 else Kind.FLUSH), 0, 0, 4096 * (seq % 2), seq * 10**9,
           seq * 10**9 + 10**8)
        for seq in range(100)
    ]  # fmt: skip
    figure = drawn(plots.throughput(opened(path, many)), path)
    upper, middle, lower = figure.axes
    assert upper.get_ylabel() == "KiB/s"
    assert middle.get_ylabel() == "ops/s"
    assert lower.get_ylabel() == "ops in flight"
    assert lower.get_xlabel() == "time (s)"
    assert [text.get_text() for text in upper.get_legend().get_texts()] == ["write"]
    assert [text.get_text() for text in middle.get_legend().get_texts()] == ["write", "flush"]
    rates, edges, _ = upper.patches[0].get_data()
    assert (rates * np.diff(edges) / 1e9).sum() == pytest.approx(50 * 4)
    rates, edges, _ = middle.patches[1].get_data()
    assert (rates * np.diff(edges) / 1e9).sum() == pytest.approx(50)


# ---------------------------------------------------------------- sizes


@pytest.mark.slow
@rewritten
@given(some_ops())
def test_bars_of_sizes_count_every_op_that_has_one(path: Path, many: list[Op]) -> None:
    figure = plots.sizes(opened(path, many))
    kinds = {Kind(op.kind).label for op in many if op.length}
    panels = {
        axes.get_title(loc="left").split(":")[0]: axes for axes in figure.axes if axes.patches
    }
    assert set(panels) == kinds
    for kind, axes in panels.items():
        lengths = [op.length for op in many if Kind(op.kind).label == kind]
        odd = [op for op in many if Kind(op.kind).label == kind and (op.offset | op.end) % 4096]
        assert f" {len(odd)} not aligned" in axes.get_title(loc="left")
        bars = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in axes.patches}
        for power, share in bars.items():
            inside = sum(1 << power <= length < 2 << power for length in lengths)
            assert share == pytest.approx(inside / len(lengths))
        assert sum(bars.values()) == pytest.approx(1)
        assert {bar.get_hatch() or "" for bar in axes.patches} == {style.LOOKS[kind][1]}


# ---------------------------------------------------------------- the heat map


def wrote(op: Op) -> bool:
    return op.kind in (Kind.WRITE, Kind.ZERO) and op.test_status == 0


@pytest.mark.slow
@rewritten
@given(some_ops())
def test_a_heat_map_has_every_byte_written(path: Path, many: list[Op]) -> None:
    t = opened(path, many)
    figure = plots.heatmap(t)
    written = [op for op in many if wrote(op)]
    if not written:
        assert words(figure) == ["nothing was written"]
        return
    counts = cells(figure.axes[0])
    height = bins.part(DISK, MAX_ROWS)
    there = np.minimum(height, DISK - np.arange(len(counts)) * height)
    assert (counts.sum(axis=1) * there).sum() == pytest.approx(sum(op.length for op in written))
    for row in range(len(counts)):
        low, high = row * height, min(DISK, (row + 1) * height)
        inside = sum(max(0, min(op.end, high) - max(op.offset, low)) for op in written)
        assert counts[row].sum() * (high - low) == pytest.approx(inside)
    subject = subject_of(t, None, None, "status")
    touches = block_writes(subject, writes(subject), 4096)
    expected = np.zeros(DISK // 4096)
    for op in written:
        expected[op.offset // 4096 : (op.end - 1) // 4096 + 1] += 1
    assert np.array_equal(touches, expected)
    side = figure.axes[1] if len(figure.axes[1].patches) == 2 else figure.axes[2]
    most, _, _ = side.patches[1].get_data()
    assert most.max() == touches.max()


@pytest.mark.parametrize(("size", "block"), [(SECTOR, 4096), (4 << 30, 4096), (1 << 40, 1 << 20)])
def test_blocks_grow_with_the_disk(size: int, block: int) -> None:
    assert block_size(size) == block
