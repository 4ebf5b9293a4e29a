"""``import blkbox``: it works without the command, prints nothing, leaves the process as it was."""

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import blkbox
from tests.kit.faulty.workload import WORKLOAD, make_trace, write_driver
from tests.kit.traces import ENDED, write_trace
from tracer.verdict import DamageKind, VerdictKind

SIZE = 1 << 20

GUEST = """
import sys
from tracer.disk.export import NbdDevice
from tracer.disk.loop import Loop
from tracer.nbd.uri import parse_uri
from tracer.op import Kind
with Loop() as loop, NbdDevice.connect(loop, parse_uri(sys.argv[1])) as device:
    for at in range(8):
        answers = []
        keep = lambda *got: answers.append(got[0])
        data = bytes([at + 1]) * 4096
        device.submit(int(Kind.WRITE), 0, at * 4096, 4096, data, keep)
        device.submit(int(Kind.READ), 0, 0, 4096, None, keep)
        device.kick()
        while len(answers) < 2:
            loop.poll(1)
        assert answers == [0, 0], answers
"""

COMMAND = [sys.executable, "-c", GUEST, "{nbd}"]


def handlers() -> list[Any]:
    """What this process does about signals."""
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return [wakeup, *(signal.getsignal(number) for number in sorted(signal.valid_signals()))]


@pytest.fixture(autouse=True)
def _undisturbed(
    runtime: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[None]:
    """Nothing is printed, and no signal handler is changed, whatever a test does."""
    monkeypatch.chdir(tmp_path)
    before = handlers()
    yield
    assert handlers() == before
    assert capfd.readouterr() == ("", "")


def test_it_has_what_it_says_it_has() -> None:
    assert dir(blkbox) == sorted(blkbox.__all__)
    for name in blkbox.__all__:
        assert getattr(blkbox, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = blkbox.nothing


def test_record_replay_open_and_tell() -> None:
    recording = blkbox.record("t.trace", driver="raw", size=SIZE, command=COMMAND)
    assert recording.verdict is VerdictKind.CLEAN
    assert (recording.guest_exit, recording.size) == (0, SIZE)
    assert (recording.ops["write"], recording.ops["read"]) == (8, 8)
    verdict = blkbox.replay("t.trace", driver="raw")
    assert (verdict.verdict, verdict.culprit) == (VerdictKind.CLEAN, None)
    assert verdict.ops == verdict.replayed_ops == sum(recording.ops.values())
    assert "verdict:  clean (raw)" in blkbox.story(verdict)
    with blkbox.open("t.trace") as frames:
        assert frames.count == verdict.ops
        assert frames.ops.collect()["kind"].to_list().count("write") == 8
    assert blkbox.verify("t.trace").ok


def test_a_bad_driver_is_a_verdict_and_no_error(tmp_path: Path) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    said: list[str] = []
    driver = str(write_driver(tmp_path, "write-lost", "server"))
    verdict = blkbox.replay("w.trace", driver=driver, say=said.append)
    assert verdict.verdict is VerdictKind.DAMAGED
    assert verdict.culprit is not None
    assert verdict.culprit.seq == 17
    assert [one.kind for one in verdict.culprit_damage] == [DamageKind.LOST_WRITE]
    assert "culprit:  #17 write" in blkbox.story(verdict)
    assert blkbox.damage(verdict).height == len(verdict.damage)
    assert said


def test_a_recording_goes_on_where_the_guest_fails() -> None:
    found = blkbox.record("t.trace", driver="raw", size=SIZE, command=["sh", "-c", "exit 3"])
    assert (found.verdict, found.guest_exit) == (VerdictKind.UNDECIDABLE, 3)


RAW: dict[str, Any] = {"driver": "raw", "size": SIZE, "command": ["true"]}

BAD: dict[str, Callable[[], object]] = {
    "record, unknown driver": lambda: blkbox.record("t.trace", **RAW | {"driver": "qcow3"}),
    "record, no driver file": lambda: blkbox.record("t.trace", **RAW | {"driver": "none.toml"}),
    "record, bad payloads": lambda: blkbox.record("t.trace", payloads="some", **RAW),
    "record, bad mismatch": lambda: blkbox.record("t.trace", on_mismatch="shrug", **RAW),
    "record, bad trim": lambda: blkbox.record("t.trace", trim="sometimes", **RAW),
    "record, no guest": lambda: blkbox.record("t.trace", **RAW | {"command": []}),
    "record, guest missing": lambda: blkbox.record("t.trace", **RAW | {"command": ["./none"]}),
    "record, trace exists": lambda: blkbox.record("w.trace", **RAW),
    "record, no folder": lambda: blkbox.record("no/t.trace", **RAW),
    "record, no size": lambda: blkbox.record("t.trace", **RAW | {"size": -1}),
    "replay, no trace": lambda: blkbox.replay("none.trace", driver="raw"),
    "replay, no trace but text": lambda: blkbox.replay("text.trace", driver="raw"),
    "replay, unknown driver": lambda: blkbox.replay("w.trace", driver="qcow3"),
    "replay, unknown reader": lambda: blkbox.replay("w.trace", driver="raw", reopen_with="qcow3"),
    "replay, no time": lambda: blkbox.replay("w.trace", driver="raw", timeout=0),
    "replay, kept already": lambda: blkbox.replay("w.trace", driver="raw", keep="kept"),
    "replay, kept nowhere": lambda: blkbox.replay("w.trace", driver="raw", keep="no/kept"),
    "replay, no such op": lambda: blkbox.replay("w.trace", driver="raw", upto="99"),
    "open, no trace": lambda: blkbox.open("none.trace"),
    "open, text": lambda: blkbox.open("text.trace"),
    "load_verdict, no file": lambda: blkbox.load_verdict("none.json"),
    "load_verdict, no JSON": lambda: blkbox.load_verdict("text.trace"),
    "report, no file": lambda: blkbox.report("none.trace", "p.html"),
    "report, no page": lambda: blkbox.report("w.trace", "p.txt"),
    "checkout, no such op": lambda: blkbox.checkout("w.trace", "i.raw", at="99"),
    "checkout, no folder": lambda: blkbox.checkout("w.trace", "no/i.raw"),
    "cut, backwards": lambda: blkbox.cut("w.trace", "c.trace", first="5", last="2"),
    "cut, onto itself": lambda: blkbox.cut("w.trace", "w.trace", force=True),
    "strip, text": lambda: blkbox.strip("text.trace", "s.trace"),
    "verify, no trace": lambda: blkbox.verify("none.trace"),
    "mark, nothing runs": lambda: blkbox.mark("here"),
    "mark, bad name": lambda: blkbox.mark(""),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_our_error_and_leaves_nothing_behind(tmp_path: Path, case: str) -> None:
    write_trace(tmp_path / "w.trace", [], SIZE, ENDED)
    (tmp_path / "text.trace").write_text("no trace")
    (tmp_path / "kept").mkdir()
    before = {path: path.is_dir() or path.read_bytes() for path in tmp_path.rglob("*")}
    with pytest.raises(blkbox.BlkboxError):
        BAD[case]()
    after = {path: path.is_dir() or path.read_bytes() for path in tmp_path.rglob("*")}
    assert after == before
