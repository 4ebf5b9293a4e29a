"""Wrong use of a trace is an error in the caller's words; and a trace says what it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import analysis
import blkbox
from analysis import plots
from analysis.frames.frames import Frames
from tests.kit.reports import lost_write
from tests.kit.traces import ENDED, write_trace
from tracer.errors import TraceError, UsageError
from tracer.op import SECTOR, Kind, Op
from tracer.trace.file import TraceWriter
from tracer.trace.header import Header
from tracer.trace.records import pack_op
from tracer.verdict import Verdict

NO_PATH = "a trace is opened by its path as text or Path, not by"
NO_RANGE = r"sectors are a range such as range\(2048, 2056\), not"

WRONG: dict[str, tuple[Callable[[Frames], Any], str]] = {
    "history, text": (lambda t: t.history("2"), "a sector is named by its number, not by '2'"),
    "history, half": (lambda t: t.history(1.5), "a sector is named by its number, not by 1.5"),
    "writers, range": (lambda t: t.writers(range(3)), "named by its number, not by range"),
    "touching, none": (lambda t: t.touching(None), "named by its number, not by None"),
    "history, beyond": (lambda t: t.history(16), "no sector 16: the disk's last is 15"),
    "versions, number": (lambda t: t.versions(5), f"{NO_RANGE} 5"),
    "versions, list": (lambda t: t.versions([1, 2]), rf"{NO_RANGE} \[1, 2\]"),
    "versions, empty": (lambda t: t.versions(range(0)), r"the disk has range\(0, 16\)"),
    "expected, number": (lambda t: t.expected(7), f"{NO_RANGE} 7"),
    "expected, text": (lambda t: t.expected(range(1), at="boot"), "an op is named by its number"),
    "expected, beyond": (lambda t: t.expected(range(1), at=9), "no op #9: the last is #1"),
    "expected, before": (lambda t: t.expected(range(1), at=-1), "no op #-1: the last is #1"),
    "bytes, text": (lambda t: t.bytes("1"), "an op is named by its number, not by '1'"),
    "bytes, beyond": (lambda t: t.bytes(99), "no op #99: the last is #1"),
    "bytes, of a read": (lambda t: t.bytes(0), "op #0 is a read: it brought no data"),
    "a picture of nothing": (lambda t: plots.damage(t, None), "its verdict, not of Frames and No"),
    "a story of a trace": (lambda t: blkbox.story(t), "a story is told of a replay's verdict"),
    "damage of a trace": (lambda t: blkbox.damage(t), "JSON or a file with it, not of a Frames"),
    "a report of a trace": (lambda t: blkbox.report(t, "r.html"), "of a file by its path, not of"),
}  # the types are wrong on purpose


@pytest.fixture
def opened(path: Path) -> Frames:
    ops = [Op(0, int(Kind.READ), 0, 0, SECTOR, 0, 5), Op(1, int(Kind.WRITE), 0, 0, SECTOR, 7, 9)]
    writer = TraceWriter(path, Header(16 * SECTOR, payloads="hash"))
    writer.write([pack_op(op) for op in ops])
    writer.close(ENDED)
    return analysis.open(path)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_argument_is_named(opened: Frames, wrong: str) -> None:
    use, told = WRONG[wrong]
    with pytest.raises(UsageError, match=told):
        use(opened)


@pytest.mark.parametrize("wrong", [3, None, b"some.trace", 1.5])
def test_what_is_no_path(wrong: Any) -> None:
    for function in (analysis.open, blkbox.open):
        with pytest.raises(UsageError, match=NO_PATH):
            function(wrong)


def test_a_path_that_is_no_trace(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"cannot open .*none.trace: No such file"):
        blkbox.open(tmp_path / "none.trace")
    with pytest.raises(TraceError, match="Is a directory"):
        blkbox.open(str(tmp_path))


def test_numbers_of_other_libraries_are_numbers(opened: Frames) -> None:
    assert opened.history(np.int64(0)).equals(opened.history(0))
    assert opened.expected(range(1), at=np.uint8(0)) == bytes(SECTOR)


def test_a_closed_trace_says_so(opened: Frames) -> None:
    opened.close()
    for use in (lambda: opened.ops, lambda: opened.marks, lambda: opened.history(0)):
        with pytest.raises(UsageError, match=r"some\.trace was closed: open it again"):
            use()
    assert repr(opened) == "<Frames some.trace: 8.0 KiB, no longer open>"
    assert "no longer open" in opened._repr_html_()


def test_a_trace_has_a_length_and_is_true(opened: Frames, tmp_path: Path) -> None:
    assert len(opened) == opened.count == 2
    empty = analysis.open(write_trace(tmp_path / "empty.trace", []))
    assert len(empty) == 0
    assert empty


def test_a_notebook_shows_what_a_trace_is(tmp_path: Path) -> None:
    path = write_trace(tmp_path / "<b>&.trace", [Op(0, 1, 0, 0, 512, 0, 5)], 1 << 20, None)
    page = analysis.open(path)._repr_html_()
    assert "&lt;b&gt;&amp;.trace" in page
    assert "<b>&." not in page
    for words in ("1.0 MiB, 2,048 sectors", "not closed", "1970-01-01 00:00 UTC"):
        assert f">{words}</td>" in page


def test_findings_and_verdicts_are_short(tmp_path: Path) -> None:
    lost_write(tmp_path, driver="a <i>driver</i>")
    verdict = blkbox.load_verdict(tmp_path / "verdict.json")
    assert isinstance(verdict, Verdict)
    shown = "<Verdict a <i>driver</i>: damaged by #1 write, 1 damaged range>"
    assert repr(verdict) == shown
    assert repr(verdict.damage) == "[<Finding sectors 2048 to 2055: lost-write>]"
    page = verdict._repr_html_()
    assert "a &lt;i&gt;driver&lt;/i&gt;: damaged" in page
    assert "8 sectors in 1 range<" in page
    assert "nothing there" in verdict.damage[0]._repr_html_()
    assert len(blkbox.damage(verdict)) == 1
