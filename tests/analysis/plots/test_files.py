"""Every picture at the extremes: no op, one, many, hostile numbers; and the files that come of
them."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import analysis
from analysis import plots
from analysis.frames.frames import Frames
from tests.kit.ops import some
from tests.kit.system import entries
from tests.kit.traces import as_recorded, write_trace
from tracer.errors import StorageError, UsageError
from tracer.op import NO_TIME, SECTOR, Kind, Op
from tracer.trace.header import MAX_SIZE
from tracer.trace.records import Mark

pytestmark = pytest.mark.slow

Draw = Callable[[Frames], Figure]
PICTURES = [plots.timeline, plots.latency, plots.throughput, plots.sizes, plots.heatmap]
LAST = (1 << 63) - 1

every_picture = pytest.mark.parametrize("draw", PICTURES, ids=lambda draw: draw.__name__)


def saved(draw: Draw, path: Path, records: list[Op | Mark], size: int = 1 << 23) -> Figure:
    """The figure, and a file of it beside the trace."""
    figure = draw(analysis.open(write_trace(path, as_recorded(records), size)))
    plots.save(figure, path.with_suffix(".png"))
    return figure


def words(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_plots_need_no_display() -> None:
    told = "import sys, analysis.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", told], check=False).returncode == 0


@every_picture
def test_a_picture_of_nothing_says_so(draw: Draw, path: Path) -> None:
    figure = saved(draw, path, [])
    assert any(word in words(figure)[0] for word in ("no ops", "nothing was written"))
    assert "8.0 MiB, 0 ops" in figure.get_supxlabel()
    start = [Op(0, int(Kind.START), 0, 0, 4096, 0, 0)]
    assert words(draw(analysis.open(write_trace(path, as_recorded(start))))) == words(figure)


@every_picture
@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.FLUSH])
def test_a_picture_of_one_op(draw: Draw, kind: Kind, path: Path) -> None:
    length = 0 if kind == Kind.FLUSH else 512
    figure = saved(draw, path, [Op(0, int(kind), 0, 0, length, 100, 350, 20, 180)])
    assert "8.0 MiB, 1 op" in figure.get_supxlabel()
    assert figure.get_suptitle().startswith("some.trace: ")
    assert words(figure) or any(axes.images or axes.lines or axes.patches for axes in figure.axes)


@every_picture
@pytest.mark.parametrize("size", [1, MAX_SIZE])
def test_disks_of_any_size(draw: Draw, size: int, path: Path) -> None:
    length = min(size, SECTOR)
    many = [Op(at, 1, 0, (size - length) * at, length, at, at + 1, 1, 1) for at in range(2)]
    saved(draw, path, many, size)


@every_picture
@pytest.mark.filterwarnings("error")
def test_an_empty_disk_has_flushes(draw: Draw, path: Path) -> None:
    flush = Op(0, int(Kind.FLUSH), 0, 0, 0, 5, 9, 3, 3)
    figure = saved(draw, path, [flush], 0)
    assert figure.get_supxlabel().startswith("some.trace: 0 B, 1 op")
    axes = Figure().subplots()
    draw(analysis.open(path), ax=axes)
    plots.save(axes.figure, path.with_suffix(".svg"))


@every_picture
def test_times_of_any_size(draw: Draw, path: Path) -> None:
    many = [
        Op(0, 1, 0, 0, 512, 0, LAST, LAST, 1),
        Op(1, 0, 0, 0, 512, LAST, 0, 1, LAST),
        Op(2, 0, 0, 0, 512, LAST, NO_TIME, 1, LAST),
        Op(3, 6, 0, 0, 512, 5, LAST - 5),
    ]
    saved(draw, path, many)
    saved(draw, path, [Op(0, 1, 0, 0, 512, 7, 7, 1, 1), Op(1, 1, 0, 0, 512, 7, 7, 1, 1)])


@every_picture
def test_many_ops_are_no_more_to_draw(draw: Draw, path: Path) -> None:
    """What is drawn, and so the file's size, does not grow with the ops."""
    many, more = (
        draw(analysis.open(write_trace(path, as_recorded(some(count)), 1 << 23)))
        for count in (4000, 40_000)
    )
    assert len(more.findobj()) <= 1.5 * len(many.findobj())
    plots.save(more, path.with_suffix(".svg"))
    assert path.with_suffix(".svg").stat().st_size < 600_000


@pytest.mark.parametrize("draw", [plots.timeline, plots.latency], ids=["cells", "lines"])
@pytest.mark.parametrize(
    ("suffix", "magic"),
    [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")],
)
def test_saved_pictures_are_what_their_suffix_says(
    draw: Draw, path: Path, suffix: str, magic: bytes
) -> None:
    t = analysis.open(write_trace(path, as_recorded(some(50)), 1 << 23))
    pictures = []
    for _ in range(2):
        plots.save(draw(t), path.with_suffix(suffix))
        pictures.append(path.with_suffix(suffix).read_bytes())
    assert pictures[0].startswith(magic)
    assert pictures[0] == pictures[1]


@every_picture
def test_names_are_text_and_nothing_more(draw: Draw, tmp_path: Path) -> None:
    path = tmp_path / "$\\frac$ \x1b[31m.trace"
    figure = saved(draw, path, [*some(50), Mark(0, 0, "$\\frac$\n" + "x" * 60)])
    assert figure.get_suptitle().startswith("$\\frac$ [31m.trace: ")


@pytest.mark.parametrize("name", ["damage.jpg", "damage", "damage.png.txt"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"must end in \.png, \.svg, \.pdf"):
        plots.save(Figure(), tmp_path / name)
    assert not (tmp_path / name).exists()


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*/taken\.png: Is a directory"):
        plots.save(Figure(), tmp_path / "taken.png")
    assert entries(tmp_path) == ["taken.png"]


@every_picture
def test_progress_is_told_of_every_read(draw: Draw, path: Path) -> None:
    """And the trace is read as often as is announced."""
    t = analysis.open(write_trace(path, as_recorded(some(100)), 1 << 23))
    told: list[int] = []
    t.watch = told.append
    draw(t)
    assert sum(told) == 101 * (1 + plots.READS[draw.__name__]), (
        "once more than the ops: to check them"
    )


def test_a_small_picture_has_the_colours_of_the_large_one(path: Path) -> None:
    """Also the colours of thin lines."""
    figure = plots.throughput(
        analysis.open(write_trace(path, as_recorded(list(some(500))), 1 << 23))
    )
    plots.save(figure, path.with_suffix(".png"))
    with (
        Image.open(path.with_suffix(".png")) as large,
        Image.open(io.BytesIO(plots.small_png(figure))) as small,
    ):
        assert small.mode == "P"
        before, after = (
            np.asarray(picture.convert("RGB")).astype(int) for picture in (large, small)
        )
    apart = np.abs(before - after).max(axis=2)
    assert apart.max() <= 20
    assert (after[(before == 255).all(axis=2)] >= 254).all(), "white stays white"
    assert len(plots.small_png(figure)) < 0.7 * path.with_suffix(".png").stat().st_size
