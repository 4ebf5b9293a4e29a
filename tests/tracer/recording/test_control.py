"""The control socket of a recording."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.kit.system import PATIENCE
from tracer.disk.loop import Loop
from tracer.errors import UsageError
from tracer.recording import control
from tracer.recording.control import Control
from tracer.trace.records import Mark

pytestmark = pytest.mark.usefixtures("runtime")


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
    """What happens to another user who connects: 1 the path is closed to it, 2 it is turned away, 3
    it gets an answer."""
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
