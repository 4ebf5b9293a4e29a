"""Marks: put into running recordings with ``trace mark``, and taken where an op's number is."""

import json
import os
import resource
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.kit.command import finish, recording, trace
from tests.kit.faulty.workload import WORKLOAD, make_trace, write_driver
from tests.kit.peers import PEER_ENV, need, peer
from tests.kit.system import PATIENCE, entries
from tests.kit.traces import read_trace
from tracer.disk.loop import Loop
from tracer.driver.spec import parse_driver
from tracer.errors import StorageError, UsageError
from tracer.op import Kind, Op
from tracer.recording import control, session
from tracer.recording.control import Control
from tracer.recording.options import RecordOptions
from tracer.trace.file import Trace, TraceWriter
from tracer.trace.header import Header
from tracer.trace.marks import check_name, count_upto, resolve, resolve_upto
from tracer.trace.records import MAX_MARK, RECORD_SIZE, End, Mark, pack_op

RAW = ("--driver", "raw", "--size", "1M")


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder for each test alone, with a short name and with a long one below it."""
    with tempfile.TemporaryDirectory(prefix="blkbox-test-") as folder:
        path = Path(folder) / ("long-" * 30)
        path.mkdir(mode=0o700)
        for environment in (os.environ, PEER_ENV):
            monkeypatch.setitem(environment, "XDG_RUNTIME_DIR", str(path))  # type: ignore[arg-type]
            monkeypatch.setitem(environment, "TMPDIR", folder)  # type: ignore[arg-type]
            monkeypatch.delitem(environment, control.VARIABLE, raising=False)  # type: ignore[arg-type]
        yield path


def io(uri: str, *commands: str) -> None:
    need("qemu-io")
    peer("qemu-io", "-f", "raw", *(word for command in commands for word in ("-c", command)), uri)


def marks(path: Path) -> list[tuple[str, int]]:
    return [(mark.name, mark.seq) for mark in read_trace(path)[0].marks]


# ---------------------------------------------------------------- running recordings


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
    script = f"test -S $BLKBOX_CONTROL && {sys.executable} -m blkbox mark inside"
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


# ---------------------------------------------------------------- the socket


class Bench:
    """A control socket whose recorder counts, and a way to talk to it in one thread."""

    def __init__(self, folder: Path) -> None:
        self.loop = Loop()
        self.names: list[str] = []
        self.control = Control(self.loop, folder / "t.trace", "0" * 32, self.mark)

    def mark(self, name: str) -> Mark:
        self.names.append(name)
        return Mark(len(self.names), 7, name)

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        folder = os.open(self.control.path.parent, os.O_PATH)
        client.connect(f"/proc/self/fd/{folder}/{self.control.path.name}")
        os.close(folder)
        self.loop.poll(0)
        return client

    def say(self, client: socket.socket, message: bytes) -> bytes:
        client.send(message)
        self.loop.poll(0)
        client.setblocking(False)
        return client.recv(1 << 20)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.control.close()
    bench.loop.close()


@pytest.mark.parametrize(
    "message",
    [
        b"{", b"[]", b"\xff\xfe", b"[" * 8000, b"x" * 100_000, b'{"mark": 1}', b'{"mark": ""}',
        b'{"mark": "a\\u0000b"}', b'{"mark": "\\ud800"}', b'{"mark": "12"}', b'{"other": 1}',
        b'{"mark": "' + b"x" * 87 + b'"}',
    ],
)  # fmt: skip
def test_what_is_no_request_is_answered_and_changes_nothing(bench: Bench, message: bytes) -> None:
    with bench.connect() as client:
        answer = json.loads(bench.say(client, message))
        assert set(answer) == {"error", "code"}
        assert answer["code"] == 200
        assert bench.names == []
        assert json.loads(bench.say(client, b'{"mark": "fine"}'))["seq"] == 1


def test_no_more_than_some_connections_are_kept(bench: Bench) -> None:
    clients = [bench.connect() for _ in range(control.MAX_PEERS)]
    with bench.connect() as extra:
        assert extra.recv(1) == b""
    clients.pop().close()
    bench.loop.poll(0)
    with bench.connect() as again:
        assert b"t.trace" in bench.say(again, b"{}")
    for client in clients:
        client.close()


def test_one_who_does_not_fetch_answers_is_dropped(bench: Bench) -> None:
    with bench.connect() as client:
        client.setblocking(False)
        dropped = False
        for _ in range(10_000):
            try:
                client.send(b"{}")
            except BrokenPipeError:
                dropped = True
                break
            bench.loop.poll(0)
        assert dropped


def test_other_users_are_turned_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends ask: here each in turn takes the other for another user."""
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with bench.connect() as client:
        assert client.recv(1) == b""
    monkeypatch.setenv(control.VARIABLE, str(bench.control.path))
    with pytest.raises(UsageError, match="no recording answers at"):
        control.put_mark("x")
    assert bench.names == []


def as_nobody(bench: Bench) -> int:
    """What happens to another user who connects: 1 the path is closed to it, 2 it is turned away, 3 it
    gets an answer."""
    child = os.fork()
    if not child:
        outcome = 9
        try:
            folder = os.open(bench.control.path.parent, os.O_PATH)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
                client.connect(f"/proc/self/fd/{folder}/{bench.control.path.name}")
                client.settimeout(PATIENCE)
                with suppress(BrokenPipeError):
                    client.send(b"{}")
                outcome = 3 if client.recv(100) else 2
        except (PermissionError, ConnectionResetError) as error:
            outcome = 1 if isinstance(error, PermissionError) else 2
        finally:
            os._exit(outcome)
    while True:
        bench.loop.poll(0.01)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)


def test_another_user_cannot_get_in_and_is_turned_away_even_so(bench: Bench) -> None:
    if os.geteuid() != 0:
        pytest.skip("takes root to become another user")
    assert as_nobody(bench) == 1
    os.chmod(bench.control.path, 0o666)
    assert as_nobody(bench) == 1
    os.chmod(bench.control.path.parent, 0o755)
    assert as_nobody(bench) == 2


# ---------------------------------------------------------------- names, and pointing at ops


@pytest.mark.parametrize("name", ["x", "boot done", "12 apples", "ä" * 43, "#x", "-1", "a,b"])
def test_names_that_a_mark_may_have(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "printable"), (" x", "printable"), ("x\n", "printable"), ("a\x1b[31mb", "printable"),
        ("a\0b", "printable"), ("\udcff", "printable"), ("a\u202eb", "printable"), ("12", "op's number"),
        ("#0", "op's number"), ("ä" * 44, "88"), ("x" * (MAX_MARK + 1), "at most 86 bytes"),
    ],
)  # fmt: skip
def test_names_that_it_may_not(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as raised:
        check_name(name)
    assert str(raised.value).isprintable()


def write(path: Path, count: int, placed: list[tuple[int, str]], *, closed: bool = True) -> Path:
    writer = TraceWriter(path, Header(4096, "hash"))
    for seq in range(count):
        if closed or seq != 2:  # a killed recorder has no record of what was in flight
            writer.write([pack_op(Op(seq, int(Kind.WRITE), 0, 0, 512, seq * 10, seq * 10 + 5))])
    for seq, name in placed:
        writer.mark(Mark(seq, 1, name))
    if closed:
        writer.close(End(count, 0, 100, "clean"))
    else:
        writer.abandon()
    return path


@pytest.mark.parametrize("closed", [True, False])
def test_an_op_is_included_and_a_mark_stands_before_its_op(tmp_path: Path, closed: bool) -> None:
    write(tmp_path / "t.trace", 6, [(3, "here"), (3, "here"), (6, "end")], closed=closed)
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
    write(tmp_path / "t.trace", 3, [(0, "a"), (1, "b\x1b"), (2, "twice"), (3, "twice")])
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
    many = write(tmp_path / "m.trace", 1, [(0, f"m{number}") for number in range(30)])
    with Trace(many) as opened, pytest.raises(UsageError, match=r"m19 \(before #0\), and 10 more$"):
        resolve(opened, "c")
    none = write(tmp_path / "n.trace", 0, [])
    with Trace(none) as opened, pytest.raises(UsageError, match="it has none"):
        resolve(opened, "0")


def test_a_replay_goes_up_to_an_op_or_a_mark(tmp_path: Path) -> None:
    write(tmp_path / "t.trace", 6, [(3, "here")])
    for upto, count in (("here", 3), ("3", 4), ("#5", 6)):
        arguments = ("replay", "t.trace", "--driver", "raw", "--upto", upto, "--json")
        verdict = json.loads(trace(*arguments, cwd=tmp_path).stdout)
        assert (verdict["ops"], verdict["replayed_ops"]) == (count, count)
    done = trace("replay", "t.trace", "--driver", "raw", "--upto", "x", cwd=tmp_path, expect=200)
    assert "its marks: here (before #3)" in done.stderr


def test_a_replay_that_ends_before_the_culprit_is_clean(tmp_path: Path) -> None:
    need("nbdkit")
    make_trace(tmp_path / "w.trace", WORKLOAD)
    driver = write_driver(tmp_path, "zero-too-long")
    arguments = ("replay", "w.trace", "--driver", driver, "--json", "--no-plot", "--upto")
    assert json.loads(trace(*arguments, "18", cwd=tmp_path).stdout)["ops"] == 19
    verdict = json.loads(trace(*arguments, "19", cwd=tmp_path, expect=1).stdout)
    assert (verdict["ops"], verdict["culprit"]["seq"]) == (20, 19)
