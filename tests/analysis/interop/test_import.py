"""What all imports have in common."""

import gzip
import json
import re
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.frames.columns import in_ns
from analysis.frames.frames import Frames
from analysis.interop.foreign_file import TextFile
from analysis.interop.formats import IMPORTS
from analysis.interop.importing import guess, import_trace
from analysis.interop.order import nearly_sorted
from analysis.interop.sink import BACKWARDS, Survey
from analysis.plots.latency import latency
from tests.kit.command import trace
from tests.kit.data import MIB
from tests.kit.foreign import bring_in
from tests.kit.system import entries, file_size_limit
from tests.kit.traces import read_trace
from tracer.errors import Exit, StorageError, TraceError, UsageError
from tracer.op import Kind, Op
from tracer.trace.order import by_seq
from tracer.trace.payloads import payload_path

SCRIPT = "write -P 1 0 4k\nread 0 8k\n"
FIO = "fio version 3 iolog\n5 /disk add\n7 /disk write 0 4096\n9 /disk read 0 4096\n"


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text(SCRIPT)
    done = trace("import", "s.txt", "-o", "s.trace", cwd=tmp_path)
    assert done.stdout.splitlines() == [
        "trace:     s.trace",
        "from:      s.txt (qemu-io script)",
        "disk:      1.0 MiB",
        "ops:       2",
        "payloads:  those of the file",
    ]
    (tmp_path / "f.iolog").write_text(FIO)
    done = trace("import", "f.iolog", "-o", "f.trace", "--size", "8M", "--json", cwd=tmp_path)
    assert json.loads(done.stdout) == {
        "trace": "f.trace",
        "source": "f.iolog",
        "format": "fio",
        "device": "/disk",
        "size": 8 * MIB,
        "ops": 2,
        "payloads": "hash",
        "skipped": {},
        "schema": 1,
    }
    assert entries(tmp_path) == ["f.iolog", "f.trace", "s.payloads", "s.trace", "s.txt"]
    trace("verify", "f.trace", cwd=tmp_path)
    shown = trace("show", "f.trace", cwd=tmp_path).stdout
    assert re.search("driver: +none, imported from a fio iolog", shown)
    assert re.search("recorded: +at an unknown time, ", shown)


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        ("none -o x.trace", Exit.BAD_TRACE, "cannot open none: No such file"),
        ("none -o x.trace --format fio", Exit.BAD_TRACE, "cannot open none: No such file"),
        ("bad -o x.trace", Exit.BAD_TRACE, "bad is in none of the formats qemu-io, "),
        ("bad -o x.trace", Exit.BAD_TRACE, r": line 1 does not fit: \x7fELF\x01"),
        ("bad -o x.trace --format fio", Exit.BAD_TRACE, "bad: line 1: not 'fio version 2"),
        ("empty -o x.trace --format fio", Exit.BAD_TRACE, "no request touches the disk"),
        ("bad -o x.trace --format elf", Exit.USAGE, "--format 'elf': write one of qemu-io, "),
        ("s -o x.trace --size 4k", Exit.USAGE, "--size 4096 is too small: s reaches byte 8192"),
        ("s -o x.trace --size 0", Exit.USAGE, "--size 0"),
        ("s -o x.trace --size 8000P", Exit.USAGE, "no disk has that size"),
        ("s -o no/x.trace", Exit.USAGE, "there is no folder no"),
        ("s -o x.payloads", Exit.USAGE, "call the trace NAME.trace"),
        ("s -o bad", Exit.USAGE, "bad exists: name another file, or give --force"),
    ],
)  # fmt: skip
def test_errors_are_one_line_and_write_nothing(
    tmp_path: Path, words: str, code: Exit, problem: str
) -> None:
    (tmp_path / "s").write_text(SCRIPT)
    (tmp_path / "bad").write_bytes(b"\x7fELF\x01\xff\n")
    (tmp_path / "empty").write_text(FIO.partition("\n")[0])
    failed = trace("import", *words.split(), cwd=tmp_path, expect=code)
    assert failed.stderr.startswith("trace: ")
    assert failed.stderr.count("\n") == 1
    assert problem in failed.stderr
    assert entries(tmp_path) == ["bad", "empty", "s"]
    assert (tmp_path / "bad").read_bytes() == b"\x7fELF\x01\xff\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "f is empty"),
        (b"\xef\xbb\xbf\n \n", "f has only empty lines"),
        (gzip.compress(SCRIPT.encode()), "f is compressed with gzip: unpack it first"),
        (
            b"\n\nhello \x1b[31m" + b"x" * 90,
            r"line 3 does not fit: hello \x1b[31m" + "x" * 49 + "...",
        ),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, content: bytes, problem: str) -> None:
    with pytest.raises(TraceError) as caught:
        bring_in(tmp_path / "f", content)
    assert str(caught.value).endswith(problem)


def test_a_trace_is_a_trace_already(tmp_path: Path) -> None:
    bring_in(tmp_path / "a.txt", SCRIPT)
    with pytest.raises(TraceError, match="is a trace already: give it to trace show"):
        import_trace(tmp_path / "a.trace", tmp_path / "b.trace")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="Is a directory"):
        import_trace(tmp_path, tmp_path / "b.trace")


@pytest.mark.parametrize("content", [SCRIPT, FIO])
def test_text_of_other_systems(tmp_path: Path, content: str) -> None:
    """A byte order mark, and lines that end with CR LF."""
    _, ops = bring_in(tmp_path / "a.txt", "\ufeff" + content.replace("\n", "\r\n"))
    assert len(ops) == 2


def test_times_that_go_backwards_are_counted(tmp_path: Path) -> None:
    made, ops = bring_in(
        tmp_path / "f.iolog", FIO + "8 /disk write 0 512\n7 /disk read 0 512\n9 /disk read 0 512\n"
    )
    assert [op.submitted for op in ops] == [0, 2000, 2001, 2002, 2003]
    assert made.skipped == {BACKWARDS: 2}


def test_a_trace_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    bring_in(tmp_path / "a.txt", SCRIPT)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "bad.txt").write_text(SCRIPT + "explode\n")
    with pytest.raises(UsageError, match="exists"):
        import_trace(tmp_path / "a.txt", tmp_path / "a.trace")
    with pytest.raises(TraceError, match="line 3"):
        import_trace(tmp_path / "bad.txt", tmp_path / "a.trace", force=True)
    (tmp_path / "bad.txt").unlink()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    # one without payloads takes the old one's away
    (tmp_path / "f.iolog").write_text(FIO)
    import_trace(tmp_path / "f.iolog", tmp_path / "a.trace", force=True)
    assert not payload_path(tmp_path / "a.trace").exists()


def test_payloads_of_another_trace_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(SCRIPT)
    (tmp_path / "a.payloads").write_text("mine")
    with pytest.raises(UsageError, match=r"a\.payloads exists"):
        import_trace(tmp_path / "a.txt", tmp_path / "a.trace")
    assert (tmp_path / "a.payloads").read_text() == "mine"


@pytest.mark.parametrize(
    "content", [SCRIPT, FIO + "".join(f"{n} /disk write 0 512\n" for n in range(9, 99))]
)
def test_a_full_disk_leaves_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.txt").write_text(content)
    with file_size_limit(1000), pytest.raises(StorageError):
        import_trace(tmp_path / "a.txt", tmp_path / "a.trace")
    assert entries(tmp_path) == ["a.txt"]


SAMPLES = {
    "qemu-io": b"# hello\n\nwrite 0 1k\n",
    "dm-log-writes": b"\x72\x68\x73\x77\x66\x73\x6a\x00\x01\0\0\0",
    "blktrace": b"\x07\x74\x61\x65\0\0",
    "blkparse": b"  8,0    3        1     0.000000000   697  G   W 223490 + 8 [kjournald]\n",
    "fio": b"fio version 2 iolog\n",
    "msr": b"128166372003061629,usr,0,Read,7014609920,24576,41286\n",
    "alibaba": b"419,W,8792731648,16384,1577808144360767\r\n",
    "nbdkit": b"2020-08-06 02:07:23.080415 Ready thread_model=3\n",
    "ftrace": b"# tracer: nop\n fio-4 [001] d. 5.004512: block_rq_issue: 8,0 W 512 () 1 + 1 [f]\n",
    "biosnoop": b"0.000004    ksmd           1950   xvda1   W 13092560   4096      0.74\n",
    "spc": b"0,20941264,8192,W,0.551706\n",
    "fiu": b"89966680272 4892 syslogd 904265560 8 W 6 0 531e779d2a4fe0e0\n",
    "tencent": b"1538323200,12910952,128,0,1283\n",
    "systor": b"1456135200.013118000,0.000806000,R,0,899056122368,131072\n",
}


@pytest.mark.parametrize("name", IMPORTS)
def test_a_format_is_told_by_its_content(tmp_path: Path, name: str) -> None:
    assert guess(tmp_path / "x", SAMPLES[name]) == name


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_no_bytes_confuse_the_guess(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    for form in IMPORTS.values():
        form.recognise(content)


@given(st.lists(st.integers(0, 1000)), st.integers(0, 20))
def test_nearly_sorted_sorts_what_is_late_by_the_window(numbers: list[int], late: int) -> None:
    mixed = sorted(range(len(numbers)), key=lambda at: at + numbers[at] % (late + 1))
    assert list(nearly_sorted(mixed, 2 * late, lambda number: number)) == sorted(mixed)
    assert sorted(nearly_sorted(mixed, 1, lambda number: number)) == sorted(mixed)


@given(st.permutations(range(12)), st.integers(0, 11))
def test_ops_by_submission(order: list[int], missing: int) -> None:
    ops = [Op(seq, Kind.FLUSH) for seq in order if seq != missing]
    assert [op.seq for op in by_seq(ops)] == sorted(op.seq for op in ops)


EMPTY = Path(__file__).parent / "__init__.py"
"""A file to be named in messages; nothing is read of it."""


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=40))
def test_a_source_s_order_holds_whatever_its_times_say(steps: list[tuple[int, bool]]) -> None:
    """What ended before another began, in the order of the source, is before it in the trace."""
    with TextFile(EMPTY) as file:
        sink = Survey(file, None)
    in_flight: list[tuple[int, list[Op]]] = []
    happened: list[tuple[str, Op]] = []
    for at, begins in steps:
        if begins or not in_flight:
            begun = sink.begin(Op(0, Kind.READ, 0, 0, 512, at))
            in_flight.append((at, begun))
            happened.append(("begin", begun[0]))
        else:
            _, begun = in_flight.pop(at % len(in_flight))
            sink.end(begun, at)
            happened.append(("end", begun[0]))
    for index, (what, op) in enumerate(happened):
        for later, after in happened[index + 1 :]:
            if (what, later) == ("end", "begin"):
                assert op.completed < after.submitted
            elif (what, later) == ("begin", "begin"):
                assert op.submitted <= after.submitted
            elif (what, later) == ("begin", "end"):
                assert op.submitted <= after.completed
            else:
                assert op.completed <= after.completed


def late(at: int) -> bytes:
    """An event of blktrace's, a write issued."""
    return struct.pack("<IIQQIIIIIHH", 0x65617407, 1, at, 8, 4096, 0x420007, 1, 8 << 20, 0, 0, 0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("blktrace", late(5) + late((1 << 64) - 1)),
        (
            "blkparse",
            b"8,0 1 1 0.000000000 7 D W 8 + 8 [x]\n8,0 1 1 9999999999.000000000 7 D W 8 + 8 [x]\n",
        ),
        ("fio", b"fio version 3 iolog\n0 /d write 0 512\n99999999999999999999 /d write 0 512\n"),
        (
            "fio",
            b"fio version 2 iolog\n/d write 0 512\n/d wait 99999999999999999999 0\n/d read 0 512\n",
        ),
        ("msr", b"1,usr,0,Read,0,512,1\n999999999999999999,usr,0,Read,0,512,1\n"),
        ("alibaba", b"1,R,0,512,1\n1,R,0,512,99999999999999999\n"),
    ],
)
def test_a_time_beyond_all_traces(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(
        TraceError, match=r": (line \d|byte 48): .* ns after the first request: no trace is"
    ):
        import_trace(tmp_path / "x", tmp_path / "x.trace", name=name)
    assert entries(tmp_path) == ["x"]


@pytest.mark.parametrize(
    ("told", "errno"), [("65541", 5), ("-5", 5), ("65531", 5), ("40000", 4095)]
)
def test_an_errno_has_16_bits(tmp_path: Path, told: str, errno: int) -> None:
    lines = f"8,0 1 1 0.0{'0' * 8} 7 D W 8 + 8 [x]\n8,0 1 1 0.0{'0' * 7}1 7 C W 8 + 8 [{told}]\n"
    _, ops = bring_in(tmp_path / "x.txt", lines)
    assert [op.reference_status for op in ops] == [errno]


def test_a_start_that_is_no_date_is_unknown(tmp_path: Path) -> None:
    bring_in(tmp_path / "x.csv", "999999999999999999,usr,0,Read,0,512,1\n")
    assert read_trace(tmp_path / "x.trace")[0].header.started == 0


SPANS = "128166372000000000,web,1,Write,0,4096,50\n128166372000000010,web,1,Read,0,512,0\n"


def test_what_was_not_measured_is_null(tmp_path: Path) -> None:
    bring_in(tmp_path / "f.iolog", FIO)
    bring_in(tmp_path / "m.csv", SPANS)
    untimed = Frames(tmp_path / "f.trace").ops.collect()
    for column in ("latency", "in_flight", "reference_took", "test_took"):
        assert untimed[column].null_count() == len(untimed) == 2
    timed = in_ns(Frames(tmp_path / "m.trace").ops.collect())
    assert timed["latency"].to_list() == [5000, None]
    assert timed["in_flight"].to_list() == [0, 1]
    assert timed["test_took"].to_list() == [None, None]
    shown = trace("show", "m.trace", "--ops", cwd=tmp_path).stdout.splitlines()
    assert [line.split()[5] for line in shown[-2:]] == ["5", "?"]
    shown = trace("show", "m.trace", "--ops", "--json", cwd=tmp_path).stdout
    assert [op["test_ns"] for op in json.loads(shown)["ops"]] == [None, None]
    page = trace("report", "f.trace", "-o", "f.html", cwd=tmp_path)
    assert page.returncode == 0
    assert "0.0" not in re.findall(r"<td[^>]*>([^<]*)</td>", (tmp_path / "f.html").read_text())


def test_the_latency_picture_says_what_it_shows(tmp_path: Path) -> None:
    bring_in(tmp_path / "m.csv", SPANS)
    caption = latency(Frames(tmp_path / "m.trace")).get_supxlabel()
    assert "from submission to completion: neither side was measured" in caption
    bring_in(tmp_path / "f.iolog", FIO)
    for picture in ("latency", "throughput", "timeline"):
        trace("plot", picture, "f.trace", "-o", f"{picture}.png", cwd=tmp_path)
