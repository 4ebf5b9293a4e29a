"""``trace strip`` and ``trace diff``: the same ops without their data, and where two parted."""

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.kit.command import finish, recording, trace
from tests.kit.faulty.workload import WORKLOAD, make_trace, write_driver
from tests.kit.peers import need, peer
from tests.kit.system import entries
from tests.kit.traces import read_trace
from tracer.digest import digest
from tracer.op import NO_PAYLOAD, NO_TIME, Fault, Kind, Op
from tracer.trace.file import Trace, TraceWriter
from tracer.trace.header import Header
from tracer.trace.output import TraceOutput
from tracer.trace.records import End, Mark, Mismatch, pack_op

# ---------------------------------------------------------------- strip


@pytest.mark.slow
def test_a_stripped_trace_has_the_same_ops_verifies_and_replays(tmp_path: Path) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    told = json.loads(trace("strip", "w.trace", "-o", "s.trace", "--json", cwd=tmp_path).stdout)
    size = (tmp_path / "s.trace").stat().st_size
    assert (told["schema"], told["ops"], told["closed"], told["trace_bytes"]) == (1, 28, True, size)
    assert entries(tmp_path) == ["s.trace", "w.payloads", "w.trace"]
    stripped, ops = read_trace(tmp_path / "s.trace")
    whole, all_ops = read_trace(tmp_path / "w.trace")
    assert ops == [replace(op, payload=NO_PAYLOAD) for op in all_ops]
    assert stripped.header == replace(whole.header, id=stripped.header.id, payloads="hash")
    assert stripped.header.id != whole.header.id
    trace("verify", "s.trace", cwd=tmp_path)
    trace("replay", "s.trace", "--driver", "raw", cwd=tmp_path)
    assert "no difference" in trace("diff", "w.trace", "s.trace", "--timing", cwd=tmp_path).stdout


@pytest.mark.slow
def test_a_defect_shows_without_payloads(tmp_path: Path) -> None:
    need("nbdkit")
    make_trace(tmp_path / "w.trace", WORKLOAD)
    trace("strip", "w.trace", "-o", "s.trace", cwd=tmp_path)
    arguments = ("--driver", write_driver(tmp_path, "write-lost"), "--json", "--no-plot")
    verdict = json.loads(trace("replay", "s.trace", *arguments, cwd=tmp_path, expect=1).stdout)
    assert verdict["culprit"]["seq"] == 17


def test_none_of_the_data_is_left(tmp_path: Path) -> None:
    path = tmp_path / "w.trace"
    secret, wrong = b"secret" * 100, b"other!" * 100
    op = Op(0, int(Kind.WRITE), 0, 0, 600, 1, 2)
    with TraceOutput(path, Header(4096)) as output:
        output.store(op, secret)
        output.op(op)
        payload = output.put(digest(wrong), wrong)
        mismatch = Mismatch(0, Fault.DATA, 0, 600, 0, 0, 3, payload, digest(wrong))
        output.mark(Mark(0, 1, "m"))
        output.mismatch(mismatch)
        output.close(End(1, 1, 5, "damaged"))
    trace("strip", path, "-o", "s.trace", cwd=tmp_path)
    with Trace(tmp_path / "s.trace") as stripped:
        records = list(stripped.records())
    assert records == [
        replace(op, digest=digest(secret), payload=NO_PAYLOAD),
        Mark(0, 1, "m"),
        replace(mismatch, payload=NO_PAYLOAD),
        End(1, 1, 5, "damaged"),
    ]
    assert b"secret" not in (tmp_path / "s.trace").read_bytes()


@pytest.mark.slow
def test_a_killed_recording_whose_payloads_are_lost_replays_once_stripped(tmp_path: Path) -> None:
    need("qemu-io")
    with recording("k.trace", "--driver", "raw", "--size", "1M", cwd=tmp_path) as (process, uri):
        peer("qemu-io", "-f", "raw", "-c", "write -P 7 0 4k", uri)
        finish(process, signal.SIGKILL)
    (tmp_path / "k.payloads").unlink()
    trace("replay", "k.trace", "--driver", "raw", cwd=tmp_path, expect=201)
    told = trace("strip", "k.trace", "-o", "s.trace", cwd=tmp_path).stdout
    assert "not closed, as its source" in told
    trace("replay", "s.trace", "--driver", "raw", cwd=tmp_path)
    problems = trace("verify", "s.trace", cwd=tmp_path, expect=201).stdout
    assert "it was not closed" in problems


@pytest.mark.slow
def test_strip_overwrites_nothing_unasked_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    make_trace(tmp_path / "s.trace", WORKLOAD[:3])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert "exists" in trace("strip", "w.trace", "-o", "s.trace", cwd=tmp_path, expect=200).stderr
    trace("strip", "w.trace", "-o", "w.trace", "--force", cwd=tmp_path, expect=200)
    whole = (tmp_path / "w.trace").read_bytes()
    (tmp_path / "bad.trace").write_bytes(whole[:-500] + b"\0" * 108 + whole[-392:])
    done = trace("strip", "bad.trace", "-o", "s.trace", "--force", cwd=tmp_path, expect=201)
    assert "at byte" in done.stderr
    (tmp_path / "bad.trace").unlink()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    trace("strip", "w.trace", "-o", "s.trace", "--force", cwd=tmp_path)
    assert entries(tmp_path) == ["s.trace", "w.payloads", "w.trace"]  # s.payloads was another's


# ---------------------------------------------------------------- diff of recordings


def write(path: Path, ops: list[Op], **header: Any) -> None:
    writer = TraceWriter(path, Header(header.pop("size", 4096), "hash", **header))
    writer.write([pack_op(op) for op in ops])
    writer.close(End(len(ops), 0, 100, "clean"))


OPS = [
    Op(seq, int(Kind.WRITE), 0, seq * 512, 512, seq * 10, seq * 10 + 5, digest=b"d" * 16)
    for seq in range(4)
]


def diff(folder: Path, *arguments: object, expect: int = 1) -> dict[str, Any]:
    done = trace("diff", "a", "b", "--json", *arguments, cwd=folder, expect=expect)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["schema"] == 1
    assert found["same"] == (expect == 0)
    return found


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("kind", int(Kind.READ), ("write", "read")),
        ("flags", 1, ([], ["FUA"])),
        ("offset", 0, (1024, 0)),
        ("length", 1024, (512, 1024)),
        ("digest", b"e" * 16, ("64" * 16, "65" * 16)),
        ("reference_status", 5, (0, 5)),
        ("test_status", 5, (0, 5)),
    ],
)
def test_the_first_op_that_differs_is_told_and_in_what(
    tmp_path: Path, field: str, value: Any, shown: tuple[Any, Any]
) -> None:
    write(tmp_path / "a", OPS)
    write(tmp_path / "b", [*OPS[:2], *(replace(op, **{field: value}) for op in OPS[2:])])
    found = diff(tmp_path)
    assert (found["kind"], found["alike"]) == ("traces", 2)
    assert found["fields"] == [{"name": field, "a": shown[0], "b": shown[1]}]
    assert (found["op_a"]["seq"], found["op_b"]["seq"]) == (2, 2)
    lines = trace("diff", "a", "b", cwd=tmp_path, expect=1).stdout.splitlines()
    assert lines[0] == "the first 2 ops are alike"
    assert lines[1] == "a: #2 write 512 B at sector 2 (1 sector)"
    assert lines[-1] == "they differ"


def test_times_matter_only_if_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "a", OPS)
    late = replace(OPS[1], completed=NO_TIME, test_ns=9, connection=7)
    write(
        tmp_path / "b", [OPS[0], OPS[2], OPS[3], late]
    )  # the same ops, completed in another order
    assert diff(tmp_path, expect=0)["alike"] == 4
    found = diff(tmp_path, "--timing")
    assert [field["name"] for field in found["fields"]] == ["completed", "test_ns"]
    assert found["alike"] == 1


def test_one_that_ends_earlier_differs(tmp_path: Path) -> None:
    write(tmp_path / "a", OPS[:3])
    write(tmp_path / "b", OPS)
    found = diff(tmp_path)
    assert (found["alike"], found["op_a"], found["op_b"]["seq"]) == (3, None, 3)
    assert "a: has ended" in trace("diff", "a", "b", cwd=tmp_path, expect=1).stdout


def test_another_disk_is_a_difference(tmp_path: Path) -> None:
    write(tmp_path / "a", OPS)
    write(tmp_path / "b", OPS, size=8192, trim="old-or-zero")
    found = diff(tmp_path)
    assert (found["alike"], found["op_a"]) == (4, None)
    assert found["fields"] == [
        {"name": "header.size", "a": 4096, "b": 8192},
        {"name": "header.trim", "a": "any", "b": "old-or-zero"},
    ]


def test_two_recordings_of_one_guest_are_alike(tmp_path: Path) -> None:
    need("qemu-io")
    for name, driver in (("a", "raw"), ("b", "raw")):
        guest = ("qemu-io", "-f", "raw", "-c", "write -P 1 0 4k", "-c", "read 0 8k", "{nbd}")
        options = ("--driver", driver, "--size", "1M")
        trace("record", f"{name}.trace", *options, "--", *guest, cwd=tmp_path)
    assert "no difference" in trace("diff", "a.trace", "b.trace", cwd=tmp_path).stdout


# ---------------------------------------------------------------- diff of verdicts

VERDICT = {
    "verdict": "damaged", "driver": "qcow2", "trace": "x", "runs": 4, "replayed_ops": 9,
    "culprit": {"seq": 12, "kind": "write", "submitted": 5},
    "damage": [{"sector": 1, "sectors": 2}],
    "schema": 1,
}  # fmt: skip


def verdicts(folder: Path, a: Any, b: Any) -> None:
    (folder / "a").write_text(json.dumps(a))
    (folder / "b").write_text(json.dumps(b, indent=2))


def test_two_verdicts_that_found_the_same_are_alike(tmp_path: Path) -> None:
    other = {**VERDICT, "driver": "vmdk", "trace": "y", "runs": 7, "replayed_ops": 10, "schema": 2}
    verdicts(tmp_path, VERDICT, {**other, "culprit": {"kind": "write", "seq": 12, "submitted": 6}})
    assert diff(tmp_path, expect=0)["kind"] == "verdicts"
    names = [field["name"] for field in diff(tmp_path, "--timing")["fields"]]
    assert names == ["runs", "replayed_ops", "culprit.submitted"]


def test_what_two_verdicts_say_differently_is_told(tmp_path: Path) -> None:
    other = {**VERDICT, "verdict": "failed", "damage": [{"sector": 1, "sectors": 3}, {"sector": 9}]}
    other["culprit"] = None
    other["new\x1b"] = "x" * 100
    verdicts(tmp_path, VERDICT, other)
    assert diff(tmp_path)["fields"] == [
        {"name": "verdict", "a": "damaged", "b": "failed"},
        {"name": "culprit", "a": VERDICT["culprit"], "b": None},
        {"name": "damage[0].sectors", "a": 2, "b": 3},
        {"name": "damage[1]", "a": None, "b": {"sector": 9}},
        {"name": "new\x1b", "a": None, "b": "x" * 100},
    ]
    shown = trace("diff", "a", "b", cwd=tmp_path, expect=1).stdout
    assert "verdict            damaged | failed" in shown
    assert "\x1b" not in shown
    assert "x" * 60 + "..." in shown


@pytest.mark.slow
def test_verdicts_of_real_replays(tmp_path: Path) -> None:
    need("nbdkit")
    make_trace(tmp_path / "w.trace", WORKLOAD)
    for name, driver, code in (("a", "raw", 0), ("b", write_driver(tmp_path, "write-lost"), 1)):
        arguments = ("replay", "w.trace", "--driver", driver, "--json", "--no-plot")
        (tmp_path / name).write_text(trace(*arguments, cwd=tmp_path, expect=code).stdout)
    names = [field["name"] for field in diff(tmp_path)["fields"]]
    assert {"verdict", "reason", "culprit", "damage[0]"} <= set(names)


@pytest.mark.parametrize(
    ("content", "code", "reason"),
    [
        (b"", 201, "is not a trace"),
        (b"\x93", 201, "is not a trace"),
        (b"{", 201, "b is not a verdict"),
        (b'{"a": 1}', 201, "has no field verdict"),
        (b'{"verdict": 5}', 201, "has no field verdict"),
        (
            b'{"verdict": "clean", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            201,
            "nested too deep",
        ),
        (b'{"verdict": "\xff"}', 201, "b is not a verdict"),
    ],
    ids=range(7),
)
def test_what_is_neither_is_refused(tmp_path: Path, content: bytes, code: int, reason: str) -> None:
    if content[:1] == b"{":
        (tmp_path / "a").write_text(json.dumps(VERDICT))
    else:
        write(tmp_path / "a", OPS)
    (tmp_path / "b").write_bytes(content)
    done = trace("diff", "a", "b", cwd=tmp_path, expect=code)
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_trace_and_a_verdict_cannot_be_compared(tmp_path: Path) -> None:
    write(tmp_path / "a", OPS)
    (tmp_path / "b").write_text(json.dumps(VERDICT))
    assert "b is JSON and a is not" in trace("diff", "a", "b", cwd=tmp_path, expect=200).stderr
    assert "cannot open c" in trace("diff", "a", "c", cwd=tmp_path, expect=201).stderr
