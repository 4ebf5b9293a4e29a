"""``trace show``."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit.command import trace
from tests.kit.faulty.workload import SIZE
from tests.kit.traces import write_trace
from tracer.op import NO_SEQ, Kind, Op
from tracer.trace.records import Restart, Settle


def test_show_marks_the_last_writer_of_a_sector(tmp_path: Path, workload: Path) -> None:
    done = trace("show", "w.trace", "--sector", "40", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["#0", "#17", "#21", "#24", "#26"]
    assert [line for line in lines if "last writer" in line] == [lines[2]]
    found = json.loads(trace("show", "w.trace", "--sector", "40", "--json", cwd=tmp_path).stdout)
    assert found["last_writer"] == 17
    assert [op["seq"] for op in found["ops"]] == [0, 17, 21, 24, 26]


def test_show_lists_a_range_of_ops(tmp_path: Path, workload: Path) -> None:
    done = trace("show", "w.trace", "--ops", "--from", "18", "--to", "20", cwd=tmp_path)
    assert [line.split()[:4] for line in done.stdout.splitlines()[1:]] == [
        ["#18", "write", "120", "24"],
        ["#19", "zero", "512", "64"],
        ["#20", "trim", "1024", "128"],
    ]


def test_show_sums_up(tmp_path: Path, workload: Path) -> None:
    facts = json.loads(trace("show", "w.trace", "--json", cwd=tmp_path).stdout)
    assert facts["ops"] == {
        "write": 20, "flush": 3, "zero": 1, "trim": 1, "read": 2, "block_status": 1,
    }  # fmt: skip
    assert (facts["closed"], facts["verdict"], facts["header"]["size"]) == (True, "clean", SIZE)
    assert "closed:    yes, clean" in trace("show", "w.trace", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    "arguments",
    [["--from", "3"], ["--ops", "--from", "3", "--to", "2"], ["--sector", str(SIZE // 512)]],
)
def test_show_refuses_nonsense(tmp_path: Path, workload: Path, arguments: list[str]) -> None:
    done = trace("show", "w.trace", *arguments, cwd=tmp_path, expect=200)
    assert done.stderr.count("\n") == 1


def test_a_trace_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    from tracer.trace.file import TraceWriter
    from tracer.trace.header import Header
    from tracer.trace.records import End, Mark

    path = tmp_path / "evil.trace"
    writer = TraceWriter(path, Header(size=512, driver={"name": "\x1b[2J\x07"}))
    writer.mark(Mark(0, 0, "\x1b]0;owned\x07"))
    writer.close(End(0, 0, 0, "\x1b[31mclean"))
    done = trace("show", "evil.trace", cwd=tmp_path)
    assert "\x1b" not in done.stdout
    assert "\x07" not in done.stdout
    assert "\\x1b[2J" in done.stdout


def test_show_lists_settles_and_restarts(tmp_path: Path) -> None:
    path = tmp_path / "w.trace"
    read = Op(0, int(Kind.READ), 0, 0, 512, 5, 9)
    settles = [Settle(0, 512 * n, 512, n + 1, 9, bytes(16)) for n in range(12)]
    settles[0] = replace(settles[0], winner=NO_SEQ)
    write_trace(path, [read, *settles, Restart(1, 20, "guest returned")])
    lines = trace("show", "w.trace", cwd=tmp_path).stdout.splitlines()
    assert "conflicts: sent" in lines
    assert "restart:   before #1, guest returned" in lines
    first = lines.index("settle:    #0 decided: bytes 0 to 511 are what was there before")
    assert lines[first + 1] == "settle:    #0 decided: bytes 512 to 1023 are #2's"
    assert lines[first + 10] == "           and 2 more"
    facts = json.loads(trace("show", "w.trace", "--json", cwd=tmp_path).stdout)
    assert facts["restarts"] == [{"seq": 1, "time": 20, "why": "guest returned"}]
    assert len(facts["settles"]) == 12
    assert facts["settles"][1] == {
        "seq": 0, "offset": 512, "length": 512, "winner": 2, "time": 9, "digest": "00" * 16,
    }  # fmt: skip
    assert facts["settles"][0]["winner"] is None
