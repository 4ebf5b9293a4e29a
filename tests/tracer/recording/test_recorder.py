"""The recorder's turn: record, then reply; and what it does when there is too much to do."""

import errno
import gc
import os
import random
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit.machines import drain, feed
from tracer.disk.device import Done
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.errors import StorageError
from tracer.mirror.comparison import Comparison
from tracer.nbd import protocol as p
from tracer.nbd.client import Client, Reply
from tracer.nbd.server import Request, Server
from tracer.op import Buffer, Kind
from tracer.recording import connection
from tracer.recording import recorder as module
from tracer.recording.recorder import Recorder
from tracer.trace import payloads as payload_module
from tracer.trace.file import Trace
from tracer.trace.header import Header
from tracer.trace.output import TraceOutput

SIZE = 1 << 20


class Slow(FileDevice):
    """A file that does nothing until it is told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.held: list[tuple[int, int, int, int, Buffer | None, Done]] = []

    def submit(
        self, kind: int, flags: int, offset: int, length: int, data: Buffer | None, done: Done
    ) -> None:
        self.held.append((kind, flags, offset, length, data, done))

    def release(self) -> None:
        held, self.held = self.held, []
        for *request, done in held:
            done(*self.execute(*request))  # type: ignore[arg-type]


class Visitor:
    """A guest of ours: a client at the other end of a socket."""

    def __init__(self, bench: "Bench") -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(bench.address)
        self.socket.setblocking(False)
        self.client = Client()
        self.replies: list[Reply] = []
        self.over = False
        self.unsaid = b""
        self.bench = bench
        while self.client.export is None:
            self.talk()
        self.talk()

    def talk(self) -> None:
        """Say what is to be said, let the recorder take a turn, and hear what it says."""
        self.unsaid += drain(self.client)
        with suppress(BlockingIOError):
            while self.unsaid:
                self.unsaid = self.unsaid[self.socket.send(self.unsaid) :]
        self.bench.recorder.turn(0)
        while not self.over:
            try:
                heard = self.socket.recv(1 << 20)
            except BlockingIOError:
                break
            except ConnectionResetError:
                heard = b""
            self.over = not heard
            self.replies += feed(self.client, heard)


class Bench:
    def __init__(
        self,
        folder: Path,
        stack: ExitStack,
        payloads: str = "hash",
        *,
        stop: bool = True,
        check_room: Callable[[int], None] = lambda needed: None,
    ) -> None:
        for name in ("good.raw", "test.raw"):
            (folder / name).write_bytes(bytes(SIZE))
        self.stack = stack
        self.loop = stack.enter_context(Loop())
        self.reference = stack.enter_context(FileDevice(folder / "good.raw"))
        self.test = stack.enter_context(Slow(folder / "test.raw"))
        self.path = folder / "t.trace"
        self.output = stack.enter_context(TraceOutput(self.path, Header(SIZE, payloads)))
        self.recorder = Recorder(
            self.loop, self.reference, self.test, Comparison(), self.output,
            stop_on_mismatch=stop, say=lambda _: None, check_room=check_room,
        )  # fmt: skip
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind("")  # Linux chooses an abstract name
        listener.listen()
        self.address = listener.getsockname()
        self.recorder.listen(listener)
        stack.callback(self.recorder.stop_listening)
        stack.callback(self.recorder.disconnect_guests)

    def visitor(self) -> Visitor:
        visitor = Visitor(self)
        self.stack.callback(visitor.socket.close)
        return visitor

    def recorded(self) -> list[int]:
        with Trace(self.path) as trace:
            return [op.seq for op in trace.ops()]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(tmp_path, stack)


def test_a_guest_is_offered_nothing_that_we_do_not_know(tmp_path: Path) -> None:
    """A driver that resizes, and has a flag of a future protocol."""
    with ExitStack() as stack:
        bench = Bench(tmp_path, stack)
        known = bench.test.export
        driver = replace(
            known,
            flags=known.flags | p.TransmissionFlag.SEND_RESIZE | 1 << 15,
            name="its own name",
            description="a disk",
        )
        bench.test.export = driver
        offered = Recorder(
            bench.loop, bench.reference, bench.test, Comparison(), bench.output, export_name="mine"
        ).export
    assert offered == replace(
        known,
        flags=known.flags | p.TransmissionFlag.CAN_MULTI_CONN,
        name="mine",
        description="a disk",
    )


def test_a_guest_that_has_left_takes_no_memory(bench: Bench) -> None:
    """Its buffers are freed at once: who comes and goes often must not wait for the collector."""
    visitor = bench.visitor()
    guest = weakref.ref(bench.recorder.guests[0])
    assert guest() is not None
    visitor.socket.close()
    gc.disable()
    try:
        bench.recorder.turn(1)
        assert bench.recorder.guests == []
        assert guest() is None
    finally:
        gc.enable()


def test_an_op_is_recorded_before_it_is_answered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = bench.visitor()
    seen: list[list[int]] = []
    reply = Server.reply

    def note(server: Server, request: Request) -> None:
        seen.append(bench.recorded())
        reply(server, request)

    monkeypatch.setattr(Server, "reply", note)
    for at in range(3):
        guest.client.request(Kind.WRITE, 0, at * 512, 512, b"w" * 512)
    guest.talk()
    assert (guest.replies, bench.recorded()) == ([], [])
    bench.test.release()
    guest.talk()
    assert [reply.error for reply in guest.replies] == [0, 0, 0]
    assert seen == [[0, 1, 2]] * 3


def test_no_more_than_so_many_ops_are_in_flight(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OPS", 4)
    guest = bench.visitor()
    for at in range(10):
        guest.client.request(Kind.WRITE, 0, at * 512, 512, b"w" * 512)
    for _ in range(3):
        guest.talk()
        assert bench.recorder.mirror.in_flight == 4
        assert len(bench.test.held) == 4
    while len(guest.replies) < 10:
        bench.test.release()
        guest.talk()
    assert sorted(bench.recorded()) == list(range(10))


def test_no_more_than_so_many_bytes_are_in_flight(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    guest = bench.visitor()
    for at in range(6):
        guest.client.request(Kind.WRITE, 0, at * 512, 512, b"w" * 512)
    guest.talk()
    assert bench.recorder.mirror.in_flight == 2
    while len(guest.replies) < 6:
        bench.test.release()
        guest.talk()


def test_a_trace_disk_that_stands_still_makes_the_guest_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The payloads go into a pipe that is read only when the test says so."""
    count, size = 16, 64 << 10
    monkeypatch.setattr(payload_module, "QUEUE_LIMIT", 2 * size)
    monkeypatch.setattr(payload_module, "BLOCK", size)
    pipe = tmp_path / "t.payloads"
    os.mkfifo(pipe)
    disk = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    source = random.Random(0)
    with ExitStack() as stack:
        bench = Bench(tmp_path, stack, "full")
        payloads = bench.output.payloads
        assert payloads is not None
        guest = bench.visitor()
        for at in range(count):
            guest.client.request(Kind.WRITE, 0, at * size, size, source.randbytes(size))
        for _ in range(50):
            guest.talk()
            bench.test.release()
        # the pipe took one payload at most, two may wait, and one made it too many
        assert payloads.full
        admitted = bench.recorder.seq
        assert 0 < admitted <= 4
        assert len(guest.replies) == admitted
        while len(guest.replies) < count:
            with suppress(BlockingIOError):
                os.read(disk, 1 << 20)
            guest.talk()
            bench.test.release()
        reader = threading.Thread(target=lambda: [*iter(lambda: os.read(disk, 1 << 20), b"")])
        os.set_blocking(disk, True)
        reader.start()
        payloads.close()
        reader.join()
    os.close(disk)


def test_one_guest_does_not_keep_another_waiting_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OPS", 2)
    greedy, modest = bench.visitor(), bench.visitor()
    for at in range(100):
        greedy.client.request(Kind.READ, 0, at * 512, 512)
    greedy.talk()
    modest.client.request(Kind.READ, 0, 0, 512)
    for _ in range(20):
        modest.talk()
        greedy.talk()
        bench.test.release()
    assert len(modest.replies) == 1


def test_a_goodbye_waits_for_what_was_asked_before_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NBD_CMD_DISC: "the server MUST handle all outstanding requests", even those that had to
    wait."""
    monkeypatch.setattr(module, "MAX_OPS", 1)
    first, second = bench.visitor(), bench.visitor()
    first.client.request(Kind.WRITE, 0, 0, 512, b"a" * 512)
    first.talk()
    second.client.request(Kind.WRITE, 0, 512, 512, b"b" * 512)
    second.client.disconnect()
    second.talk()
    assert len(bench.test.held) == 1
    while not (first.replies and second.over):
        bench.test.release()
        second.talk()
        first.talk()
    assert [reply.error for reply in second.replies] == [0]
    assert bench.reference.read(512, 512) == b"b" * 512


def test_a_guest_that_is_gone_costs_nothing(bench: Bench) -> None:
    guest = bench.visitor()
    guest.client.request(Kind.WRITE, 0, 0, 512, b"a" * 512)
    guest.talk()
    guest.socket.close()
    bench.recorder.turn(0)
    bench.test.release()
    bench.recorder.turn(0)
    assert bench.recorder.guests == []
    assert bench.recorder.idle
    assert bench.recorded() == [0]
    assert bench.test.read(0, 512) == b"a" * 512


def test_what_waits_at_the_end_is_not_the_driver_s(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest that does not fetch its replies holds its own requests back."""
    monkeypatch.setattr(connection, "MAX_UNSENT", 0)
    monkeypatch.setattr(module, "MAX_OPS", 2)
    guest = bench.visitor()
    for at in range(4):
        guest.client.request(Kind.READ, 0, at * 512, 512)
    guest.talk()
    recorder = bench.recorder
    assert (recorder.mirror.in_flight, len(recorder.guests[0].backlog)) == (2, 2)
    recorder.end()
    recorder.turn(0)
    assert not recorder.idle
    bench.test.release()
    recorder.turn(0)
    assert recorder.idle
    guest.client.request(Kind.READ, 0, 0, 512)
    guest.talk()
    errors = sorted(reply.error for reply in guest.replies)
    assert errors == [0, 0, errno.ESHUTDOWN, errno.ESHUTDOWN, errno.ESHUTDOWN]
    assert sorted(bench.recorded()) == [0, 1]
    assert recorder.guest_ops == 2


def test_a_difference_on_a_full_disk_is_ours(tmp_path: Path) -> None:
    asked = []

    def full(needed: int) -> None:
        asked.append(needed)
        raise StorageError("full")

    with ExitStack() as stack:
        bench = Bench(tmp_path, stack, check_room=full)
        guest = bench.visitor()
        guest.client.request(Kind.WRITE, 0, 0, 4096, bytes(4096))
        guest.talk()
        [(*_, done)] = bench.test.held
        done(errno.ENOSPC, None, [])
        guest.talk()
        assert asked == [4096]
        assert [reply.error for reply in guest.replies] == [errno.EIO]
        assert str(bench.recorder.error) == "full"
        assert bench.recorder.differences == []
        with Trace(bench.path) as trace:
            assert trace.mismatches() == []


def test_reads_and_flags_that_shape_replies_are_no_part_of_the_op(bench: Bench) -> None:
    guest = bench.visitor()
    guest.client.request(Kind.READ, 4, 0, 512)  # DF
    guest.client.request(Kind.BLOCK_STATUS, 8, 0, SIZE)  # REQ_ONE
    guest.talk()
    assert [flags for _, flags, *_ in bench.test.held] == [0, 0]
    bench.test.release()
    guest.talk()
    assert [reply.error for reply in guest.replies] == [0, 0]
    assert len(guest.replies[1].extents) == 1


def test_a_driver_that_is_always_wrong_takes_no_memory_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LISTED", 3)
    with ExitStack() as stack:
        bench = Bench(tmp_path, stack, stop=False)
        (tmp_path / "test.raw").write_bytes(b"x" * SIZE)
        guest = bench.visitor()
        for at in range(5):
            guest.client.request(Kind.READ, 0, at * 4096, 4096)
            guest.talk()
            bench.test.release()
            guest.talk()
        kept = bench.recorder.differences
        assert [(one.offset, one.length) for one in kept] == [(at * 4096, 4096) for at in range(3)]
        assert not any(one.expected or one.actual for one in kept)
        assert bench.recorder.mismatches == 5
        with Trace(bench.path) as trace:
            assert [one.seq for one in trace.mismatches()] == [0, 1, 2, 3, 4]
