"""The damage plot shows what the verdict says."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import analysis
from analysis import plots
from analysis.plots import closeup
from analysis.plots.damage import _COLUMNS, _coarse
from tests.kit.traces import write_trace as write
from tracer.errors import UsageError
from tracer.op import SECTOR, Kind, Op
from tracer.verdict import Verdict, from_json

pytestmark = pytest.mark.slow

GIB = 1 << 30
VERMILLION = to_rgb("#D55E00")


def write_op(seq: int, sector: int, sectors: int = 8, kind: Kind = Kind.WRITE, **more: Any) -> Op:
    times = {"submitted": 10 * seq, "completed": 10 * seq + 5} | more
    return Op(seq, int(kind), 0, sector * SECTOR, sectors * SECTOR, **times)


def verdict(culprit: Op | None = None, size: int = GIB, **more: Any) -> Verdict:
    """What a replay found; ranges are pairs of sector and sectors."""
    told: dict[str, Any] = {
        "schema": 1, "verdict": "damaged", "driver": "qcow2", "trace": "some.trace", "size": size,
        "ops": 1, "replayed_ops": 1, "culprit": None, "damage": [], "culprit_damage": [],
        "first_bad_read": None, "reason": "the image is wrong at the end",
    }  # fmt: skip
    if culprit is not None:
        told["culprit"] = {
            "seq": culprit.seq, "kind": Kind(culprit.kind).label, "offset": culprit.offset,
            "length": culprit.length, "flags": ["FUA"], "submitted": culprit.submitted,
        }  # fmt: skip
    for name in ("damage", "culprit_damage"):
        more[name] = [{"sector": at, "sectors": count} for at, count in more.get(name, [])]
    return from_json(told | more, Verdict)


def draw(path: Path, many: list[Op], told: Verdict) -> Figure:
    """The figure, drawn once so that nothing about it is left to be found out, nor warned of."""
    in_order = sorted(many, key=lambda op: op.completed)
    figure = plots.damage(analysis.open(write(path, in_order, told.size)), told)
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
    many = [
        write_op(0, 1_000_000, 64),
        culprit,
        write_op(2, 1_000_004, 1, Kind.READ),
        write_op(3, 5),
    ]
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
    assert high - low <= 4 * closeup.CLUSTER
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
    assert len(labels(panel)) == closeup.MAX_ROWS
    assert "#500 write" in labels(panel)
    assert f"shown: {closeup.MAX_ROWS} of the " in words(figure)
    assert "64 KiB" not in words(figure)


def test_the_rows_that_tell_most_are_kept(path: Path) -> None:
    """Among very many ops: the culprit, the first wrong read, what was in flight with the culprit,
    and the last that wrote what is damaged."""
    culprit = write_op(500, 96, 8, Kind.ZERO, completed=5_100)
    many = [write_op(seq, 100, 4, Kind.READ) for seq in range(1000) if seq != 500]
    many[3] = write_op(3, 120, 8)
    many[900] = write_op(901, 120, 8, Kind.READ)
    told = verdict(culprit, damage=[(120, 8)], first_bad_read={"seq": 901, "sector": 120})
    _, panel = draw(path, [*many, culprit], told).axes
    shown = labels(panel)
    assert len(shown) == closeup.MAX_ROWS
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
    many.append(write_op(4, 0, 0, Kind.FLUSH))
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


def test_the_legend_names_as_many_causes_as_fit(path: Path) -> None:
    def cause(what: str) -> dict[str, Any]:
        return {"what": what, "text": what, "ranges": 1, "sectors": 1, "sector": 64}

    def labels(causes: list[str], own: list[str]) -> list[str]:
        told = verdict(
            write_op(0, 64), damage=[(64, 8), (100, 8)], culprit_damage=[(64, 8)],
            causes=[cause(what) for what in causes], culprit_causes=[cause(what) for what in own],
        )  # fmt: skip
        figure = draw(path, [write_op(0, 64)], told)
        return [text.get_text() for text in figure.legends[0].texts][1:3]

    assert labels(["40 writes torn", "#7 write lost"], ["#0 write torn"]) == [
        "damaged: 40 writes torn, #7 write lost", "damaged by the culprit: #0 write torn",
    ]  # fmt: skip
    assert labels(["40 writes torn"] + ["1 range unexplained"] * 8, ["x" * 99]) == [
        "damaged: 40 writes torn, 1 range unexplained, 7 more", "damaged by the culprit",
    ]  # fmt: skip
    assert labels(["$x^2$ \x1b[31m"], [])[0] == "damaged: $x^2$ [31m"


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
        (entries[kind.label].get_hatch() or "", entries[kind.label].get_facecolor())
        for kind in kinds
    }
    assert len(looks) == len(kinds)
    assert len({hatch for hatch, _ in looks}) == len(kinds) - 1, (
        "read and write differ in lightness"
    )


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
    unit = -(-size // _COLUMNS)
    covered = {sector for start, end in _coarse(ranges, size) for sector in range(start, end)}
    there = {sector for start, end in ranges for sector in range(start, end)}
    assert there <= covered
    assert {sector // unit for sector in covered} == {sector // unit for sector in there}


def test_a_verdict_about_another_trace_is_refused(path: Path) -> None:
    t = analysis.open(write(path, [write_op(0, 64)], GIB))
    with pytest.raises(UsageError, match="the verdict is about a disk of 512 bytes"):
        plots.damage(t, verdict(size=512))
    with pytest.raises(UsageError, match="has no op #9, which the verdict names"):
        plots.damage(t, verdict(write_op(9, 64)))
