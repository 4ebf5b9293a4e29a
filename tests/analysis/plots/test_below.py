"""The picture of the guest's ops above and the driver's own below."""

from pathlib import Path

import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

import analysis
import blkbox
from analysis import plots
from tests.analysis.frames.test_lower import write
from tests.kit.powercuts import FLUSH, KIB, serial
from tracer.errors import TraceError, UsageError
from tracer.op import Kind


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return serial(tmp_path / "t.trace", [(Kind.WRITE, 0, 4 * KIB, 0), FLUSH])


def test_each_lower_op_is_a_line_under_the_op_that_was_in_flight(path: Path) -> None:
    write(path)
    with analysis.open(path) as trace:
        submitted = trace.ops.select("submitted").collect()["submitted"].dt.total_nanoseconds()
        figure = plots.below(trace)
    upper, under = figure.axes[:2]
    assert (upper.get_ylabel(), under.get_ylabel()) == ("the disk", "the image file")
    lines = [one for one in under.collections if isinstance(one, LineCollection)]
    legend = under.get_legend()
    assert legend is not None
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["write: 2", "zero: 1", "flush: 2", "truncate: 1"]
    moments = [segment[0][0] for one in lines for segment in one.get_segments()]
    # write, write, zero, flush, flush, truncate; the first comes before any op of the guest
    assert moments == [0, submitted[0], submitted[0], submitted[1], submitted[1], submitted[1]]


def test_it_needs_the_lower_ops(path: Path) -> None:
    with pytest.raises(TraceError, match=r"t\.lower"):
        blkbox.plot("below", path)


def test_it_makes_its_own_axes(path: Path) -> None:
    write(path)
    with pytest.raises(UsageError, match="two panels"):
        blkbox.plot("below", path, ax=Figure().add_subplot())
