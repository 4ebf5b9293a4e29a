"""A mark's name, and marks and numbers where an op is pointed at."""

from pathlib import Path

import pytest

from tests.kit.marked import write_marked
from tracer.errors import UsageError
from tracer.op import Kind, Op
from tracer.trace.file import Trace, TraceWriter
from tracer.trace.header import Header
from tracer.trace.marks import check_name, count_upto, resolve, resolve_upto
from tracer.trace.records import MAX_MARK, End, pack_op


@pytest.mark.parametrize("name", ["x", "boot done", "12 apples", "ä" * 43, "#x", "-1", "a,b"])
def test_names_that_a_mark_may_have(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "printable"), (" x", "printable"), ("x\n", "printable"), ("a\x1b[31mb", "printable"),
        ("a\0b", "printable"), ("\udcff", "printable"), ("a\u202eb", "printable"),
        ("12", "op's number"),
        ("#0", "op's number"), ("ä" * 44, "88"), ("x" * (MAX_MARK + 1), "at most 86 bytes"),
    ],
)  # fmt: skip
def test_names_that_it_may_not(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as raised:
        check_name(name)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("closed", [True, False])
def test_an_op_is_included_and_a_mark_stands_before_its_op(tmp_path: Path, closed: bool) -> None:
    write_marked(tmp_path / "t.trace", 6, [(3, "here"), (3, "here"), (6, "end")], closed=closed)
    with Trace(tmp_path / "t.trace") as opened:
        assert [resolve(opened, text) for text in ("4", "#4", "here", "end")] == [4, 4, 3, 6]
        assert [resolve_upto(opened, text) for text in ("4", "#4", "here", "end")] == [5, 5, 3, 6]
        lost = 0 if closed else 1
        assert [count_upto(opened, text) for text in ("0", "4", "here", "end")] == [
            1, 5 - lost, 3 - lost, 6 - lost,
        ]  # fmt: skip
        with pytest.raises(UsageError, match="has no op #6: the last is #5"):
            resolve(opened, "6")


def test_numbers_go_up_to_the_highest_though_some_have_no_record(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / "t.trace", Header(4096, "hash"))
    writer.write([pack_op(Op(seq, int(Kind.FLUSH))) for seq in (5, 0)])
    writer.close(End(2, 0, 1, "failed"))
    with Trace(tmp_path / "t.trace") as opened:
        assert resolve(opened, "5") == 5


def test_an_unknown_mark_is_told_those_that_there_are(tmp_path: Path) -> None:
    write_marked(tmp_path / "t.trace", 3, [(0, "a"), (1, "b\x1b"), (2, "twice"), (3, "twice")])
    with Trace(tmp_path / "t.trace") as opened:
        with pytest.raises(UsageError) as raised:
            resolve(opened, "c")
        expected = (
            "has no mark 'c'; its marks: a (before #0), b\\x1b (before #1), twice (before #2), "
        )
        assert expected in str(raised.value)
        with pytest.raises(UsageError, match=r"has no mark 'none\\x1b';"):
            resolve(opened, "none\x1b")
        with pytest.raises(UsageError, match=r"stands before 2 ops \(#2, #3\): give the number"):
            resolve(opened, "twice")
    many = write_marked(tmp_path / "m.trace", 1, [(0, f"m{number}") for number in range(30)])
    with Trace(many) as opened, pytest.raises(UsageError, match=r"m19 \(before #0\), and 10 more$"):
        resolve(opened, "c")
    none = write_marked(tmp_path / "n.trace", 0, [])
    with Trace(none) as opened, pytest.raises(UsageError, match="it has none"):
        resolve(opened, "0")
