"""``trace mark``: marks in running recordings."""

import json
import os
import resource
import signal
import stat
import sys
from pathlib import Path

import pytest

from tests.kit.command import finish, recording, trace
from tests.kit.faulty.workload import WORKLOAD, make_trace
from tests.kit.peers import need, peer
from tests.kit.system import entries
from tests.kit.traces import read_trace
from tracer.disk.loop import Loop
from tracer.driver.spec import parse_driver
from tracer.errors import StorageError
from tracer.op import Kind
from tracer.recording import control, session
from tracer.recording.control import Control
from tracer.recording.options import RecordOptions
from tracer.trace.records import RECORD_SIZE, Mark

pytestmark = pytest.mark.usefixtures("runtime")


RAW = ("--driver", "raw", "--size", "1M")


def io(uri: str, *commands: str) -> None:
    need("qemu-io")
    peer("qemu-io", "-f", "raw", *(word for command in commands for word in ("-c", command)), uri)


def marks(path: Path) -> list[tuple[str, int]]:
    return [(mark.name, mark.seq) for mark in read_trace(path)[0].marks]


@pytest.mark.slow
def test_marks_stand_between_the_ops_around_them(tmp_path: Path) -> None:
    with recording("t.trace", *RAW, cwd=tmp_path) as (process, uri):
        done = trace("mark", "start", cwd=tmp_path)
        assert done.stdout == f"mark start stands before op #0 of {tmp_path}/t.trace\n"
        io(uri, "write -P 1 0 4k", "write -P 2 4k 4k")
        told = json.loads(trace("mark", "räum auf", "--json", cwd=tmp_path).stdout)
        io(uri, "write -P 3 8k 4k")
        assert finish(process)[0] == 0
    _, ops = read_trace(tmp_path / "t.trace")
    assert marks(tmp_path / "t.trace") == [("start", 0), ("räum auf", told["seq"])]
    assert (told["schema"], told["name"]) == (1, "räum auf")
    writes = [op for op in ops if op.kind == Kind.WRITE]
    assert writes[1].seq < told["seq"] <= writes[2].seq
    assert writes[1].completed <= told["time"] <= writes[2].submitted
    trace("verify", "t.trace", cwd=tmp_path)
    assert (
        f"mark:      räum auf before #{told['seq']}"
        in trace("show", "t.trace", cwd=tmp_path).stdout
    )
    trace("cut", "t.trace", "--from", "räum auf", "-o", "p.trace", cwd=tmp_path)
    assert [op.offset for op in read_trace(tmp_path / "p.trace")[1] if op.kind == Kind.WRITE] == [
        8192
    ]


def test_a_guest_s_command_marks_its_own_recording(tmp_path: Path) -> None:
    need("qemu-io")
    script = f"test -S $BLKBOX_CONTROL && {sys.executable} -m blkbox mark inside && "
    script += "qemu-io -f raw -c 'read 0 512' $NBD_URI"
    with recording("other.trace", *RAW, cwd=tmp_path):
        trace("record", "t.trace", *RAW, "--", "sh", "-c", script, cwd=tmp_path)
    assert marks(tmp_path / "t.trace") == [("inside", 0)]
    assert marks(tmp_path / "other.trace") == []


def test_the_socket_is_private_and_goes_with_the_recording(tmp_path: Path, runtime: Path) -> None:
    folder = runtime / "blkbox"
    with recording("t.trace", *RAW, cwd=tmp_path) as (process, _):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        [path] = folder.iterdir()
        assert path.name == f"{read_trace(tmp_path / 't.trace')[0].header.id}.control"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        finish(process)
    assert entries(folder) == []


@pytest.mark.slow
def test_of_several_recordings_one_must_be_named(tmp_path: Path) -> None:
    done = trace("mark", "x", cwd=tmp_path, expect=200)
    assert done.stderr == "trace: no recording is running\n"
    with recording("a.trace", *RAW, cwd=tmp_path), recording("b.trace", *RAW, cwd=tmp_path):
        done = trace("mark", "x", cwd=tmp_path, expect=200)
        assert len(done.stderr.splitlines()) == 1
        assert f"{tmp_path}/a.trace" in done.stderr
        assert f"{tmp_path}/b.trace" in done.stderr
        trace("mark", "x", "--trace", "b.trace", cwd=tmp_path)
        make_trace(tmp_path / "old.trace", WORKLOAD[:1])
        done = trace("mark", "x", "--trace", "old.trace", cwd=tmp_path, expect=200)
        assert "old.trace is not being recorded; these are: " in done.stderr
        trace("mark", "x", "--trace", "missing.trace", cwd=tmp_path, expect=201)
    assert marks(tmp_path / "a.trace") == []
    assert marks(tmp_path / "b.trace") == [("x", 0)]


def test_marks_of_a_killed_recorder_stay_and_its_socket_is_in_nobody_s_way(
    tmp_path: Path, runtime: Path
) -> None:
    with recording("a.trace", *RAW, cwd=tmp_path) as (process, uri):
        io(uri, "write 0 4k")
        trace("mark", "before the end", cwd=tmp_path)
        finish(process, signal.SIGKILL)
    [(name, seq)] = marks(tmp_path / "a.trace")
    assert (name, seq) == ("before the end", len(read_trace(tmp_path / "a.trace")[1]))
    assert len(entries(runtime / "blkbox")) == 1
    with recording("b.trace", *RAW, cwd=tmp_path):
        trace("mark", "x", cwd=tmp_path)  # exactly one is running
        assert len(entries(runtime / "blkbox")) == 1
    done = trace("mark", "x", "--trace", "a.trace", cwd=tmp_path, expect=200)
    assert "a.trace is not being recorded" in done.stderr


def test_without_a_private_folder_there_is_no_socket(
    tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (runtime / "blkbox").mkdir()
    (runtime / "blkbox").chmod(0o755)
    monkeypatch.setattr(control, "folders", lambda: [runtime / "blkbox"])
    with Loop() as loop, pytest.raises(PermissionError, match="is not private"):
        Control(loop, tmp_path / "t.trace", "0" * 32, lambda name: Mark(0, 0, name))
    assert entries(runtime / "blkbox") == []


def test_a_recording_goes_on_without_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise PermissionError("it is not private")

    monkeypatch.setattr(control, "Control", fails)
    monkeypatch.setenv(control.VARIABLE, "/another/recording's")
    said: list[str] = []
    command = ["sh", "-c", 'test -z "$BLKBOX_CONTROL"']
    options = RecordOptions(
        tmp_path / "t.trace", parse_driver("raw"), size=1 << 20, command=command
    )
    assert session.record(options, said.append).guest_exit == 0
    assert said == ["blkbox: trace mark will not work: it is not private"]


def test_the_next_folder_serves_where_the_first_is_not_private(
    tmp_path: Path, runtime: Path
) -> None:
    (runtime / "blkbox").symlink_to(tmp_path)
    with recording("t.trace", *RAW, cwd=tmp_path):
        assert len(entries(runtime.parent / f"blkbox-{os.geteuid()}")) == 1
        trace("mark", "x", cwd=tmp_path)
    assert marks(tmp_path / "t.trace") == [("x", 0)]


def test_a_mark_that_cannot_be_written_ends_the_recording(tmp_path: Path) -> None:
    with recording("t.trace", *RAW, cwd=tmp_path) as (process, _):
        room = (tmp_path / "t.trace").stat().st_size + RECORD_SIZE + 10
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, room))
        trace("mark", "one", cwd=tmp_path)
        done = trace("mark", "two", cwd=tmp_path, expect=202)
        assert done.stderr == "trace: cannot write t.trace: File too large\n"
        code, _out, err = finish(process, None)
    assert code == 202, err
    assert marks(tmp_path / "t.trace") == [("one", 0)]
    assert read_trace(tmp_path / "t.trace")[0].torn_bytes == 0


def test_a_recorder_that_stands_still_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "PATIENCE", 0.2)
    with recording("t.trace", *RAW, cwd=tmp_path) as (process, _):
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(StorageError, match=r"did not answer within 0\.2 s"):
            control.put_mark("x")
        process.send_signal(signal.SIGCONT)
