"""Disks that take requests: a file, and an NBD server's export."""

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kit.data import MIB, pattern
from tests.kit.peers import background, need
from tests.kit.system import wait_until
from tests.tracer.nbd import server_side
from tracer.disk.device import CONNECTION_LOST, Data
from tracer.disk.export import NbdDevice
from tracer.disk.file import EVERYTHING, FileDevice
from tracer.disk.loop import Loop
from tracer.errors import Exit, NbdError, StorageError
from tracer.nbd import protocol as p
from tracer.nbd.client import Reply
from tracer.nbd.uri import Address
from tracer.op import Extents, Flag, Kind

SIZE = MIB
HOLE = int(p.State.HOLE | p.State.ZERO)

# ---------------------------------------------------------------- files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(pattern(SIZE))
    return path


@pytest.fixture
def disk(path: Path) -> Iterator[FileDevice]:
    with FileDevice(path) as device:
        yield device


def test_what_a_file_can_do(disk: FileDevice) -> None:
    assert disk.export == p.Export(SIZE, EVERYTHING)
    assert not disk.export.flags & p.TransmissionFlag.READ_ONLY


def test_a_read_is_done_at_once(disk: FileDevice) -> None:
    answers: list[tuple[int, Data | None, Extents]] = []
    disk.submit(Kind.READ, 0, 1000, 500, None, lambda *answer: answers.append(answer))
    assert answers == [(0, pattern(SIZE)[1000:1500], [])]


@pytest.mark.parametrize(
    ("kind", "flags"), [(Kind.WRITE, 0), (Kind.WRITE, Flag.FUA), (Kind.START, 0)]
)
def test_writes(disk: FileDevice, path: Path, kind: Kind, flags: int) -> None:
    assert disk.execute(kind, flags, 700, 5, memoryview(b"hello")) == (0, None, [])
    assert path.read_bytes() == pattern(SIZE)[:700] + b"hello" + pattern(SIZE)[705:]


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        (Kind.ZERO, 0),
        (Kind.ZERO, Flag.NO_HOLE),
        (Kind.ZERO, Flag.FAST_ZERO),
        (Kind.TRIM, 0),
    ],
)
def test_zeroes(disk: FileDevice, path: Path, kind: Kind, flags: int) -> None:
    assert disk.execute(kind, flags, 1000, 20_000, None) == (0, None, [])
    data = path.read_bytes()
    assert data == pattern(SIZE)[:1000] + bytes(20_000) + pattern(SIZE)[21_000:]


def test_zeroes_at_the_end_do_not_make_the_file_larger(disk: FileDevice, path: Path) -> None:
    for flags in (0, Flag.NO_HOLE):
        disk.execute(Kind.ZERO, flags, SIZE - 1000, 1000, None)
    assert path.stat().st_size == SIZE


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_a_reference_stays_sparse(path: Path) -> None:
    """Whatever zeroes it: a request that asks for blocks, or a write of zeroes."""
    with FileDevice(path, durable=False) as reference:
        assert reference.execute(Kind.ZERO, Flag.NO_HOLE, 0, SIZE, None)[0] == 0
        assert allocated(path) == 0
        assert reference.execute(Kind.WRITE, 0, 0, SIZE, bytes(SIZE))[0] == 0
        assert allocated(path) == 0
    assert path.read_bytes() == bytes(SIZE)


def test_a_raw_test_image_keeps_its_blocks_if_it_must(disk: FileDevice, path: Path) -> None:
    before = allocated(path)
    assert disk.execute(Kind.ZERO, Flag.NO_HOLE, 0, SIZE, None)[0] == 0
    assert disk.execute(Kind.WRITE, 0, 0, SIZE, bytes(SIZE))[0] == 0
    assert allocated(path) == before


@pytest.mark.parametrize("kind", [Kind.FLUSH, Kind.CACHE])
@pytest.mark.parametrize("durable", [True, False])
def test_requests_that_change_nothing(path: Path, kind: Kind, durable: bool) -> None:
    with FileDevice(path, durable=durable) as device:
        assert device.execute(kind, Flag.FUA, 0, 0, None) == (0, None, [])
    assert path.read_bytes() == pattern(SIZE)


def test_holes_are_told(disk: FileDevice) -> None:
    disk.execute(Kind.TRIM, 0, 65536, 65536, None)
    status = disk.execute(Kind.BLOCK_STATUS, 0, 0, SIZE, None)[2]
    assert status == [(65536, 0), (65536, HOLE), (SIZE - 131072, 0)]
    assert disk.execute(Kind.BLOCK_STATUS, 0, 70_000, 1000, None)[2] == [(1000, HOLE)]
    assert disk.execute(Kind.BLOCK_STATUS, 0, 65000, 1000, None)[2] == [(536, 0), (464, HOLE)]


def test_a_file_that_was_cut_short_is_an_error(disk: FileDevice, path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1000)
    assert disk.execute(Kind.READ, 0, 500, 1000, None) == (errno.EIO, None, [])


def test_a_write_that_fails_has_its_errno(path: Path) -> None:
    with FileDevice(path, read_only=True) as device:
        assert device.execute(Kind.WRITE, 0, 0, 5, b"hello") == (errno.EBADF, None, [])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file") as caught:
        FileDevice(tmp_path / "none")
    assert caught.value.exit_code == Exit.STORAGE


def test_closing_twice(path: Path) -> None:
    device = FileDevice(path)
    device.close()
    device.close()


# ---------------------------------------------------------------- servers


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


def test_nobody_listens(loop: Loop, tmp_path: Path) -> None:
    for address in (Address(path=str(tmp_path / "none")), Address(host="127.0.0.1", port=1)):
        with pytest.raises(NbdError, match="cannot connect to") as caught:
            NbdDevice.connect(loop, address)
        assert address.uri() in str(caught.value)


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (b"", "the server closed the connection"),
        (b"SSH-2.0-OpenSSH_9.2p1", "it does not speak newstyle NBD"),
        (p.HELLO.pack(p.NBDMAGIC, p.IHAVEOPT, 3), "the server closed the connection|Broken pipe"),
    ],
)
def test_servers_that_leave_early(loop: Loop, tmp_path: Path, says: bytes, why: str) -> None:
    address = Address(path=str(tmp_path / "s"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address.path)
        server.listen()
        server.setblocking(False)
        accepted: list[int] = []

        def accept(_: int) -> None:
            connection, _ = server.accept()
            accepted.append(connection.send(says))
            connection.shutdown(socket.SHUT_WR)
            connection.close()

        loop.add(server.fileno(), accept)
        with pytest.raises(NbdError, match=why):
            NbdDevice.connect(loop, address)
        loop.remove(server.fileno())
    assert accepted


def test_a_server_that_says_nothing(loop: Loop, tmp_path: Path) -> None:
    address = Address(path=str(tmp_path / "s"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address.path)
        server.listen()
        with pytest.raises(NbdError, match=r"did not finish negotiating within 0\.05 s"):
            NbdDevice.connect(loop, address, timeout=0.05)


@pytest.fixture
def device(loop: Loop, tmp_path: Path) -> Iterator[NbdDevice]:
    """A 1 MiB memory disk of nbdkit's that takes at most 64 KiB at a time."""
    need("nbdkit")
    path = tmp_path / "s"
    command = ["nbdkit", "--foreground", f"--unix={path}", "--filter=blocksize-policy", "memory",
               "1M",
               "blocksize-maximum=64K", "blocksize-error-policy=error"]  # fmt: skip
    with background(*command, cwd=tmp_path):
        wait_until(lambda: listens(path))
        with NbdDevice.connect(loop, Address(path=str(path))) as device:
            yield device


@pytest.mark.parametrize("context", [True, False])
def test_only_who_tells_holes_is_asked_for_reads_in_one_chunk(
    loop: Loop, tmp_path: Path, context: bool
) -> None:
    """nbd-server 3.27 offers DF, fails reads with it, and has no block status."""
    offer = server_side.export_info(SIZE, server_side.FLAGS | p.TransmissionFlag.SEND_DF)
    goes = offer + server_side.rep(p.Option.GO, p.Rep.ACK)
    told = server_side.HAS_CONTEXT
    if not context:
        told = server_side.rep(p.Option.SET_META_CONTEXT, p.Rep.ERR_UNSUP)
    says = server_side.hello() + server_side.HAS_STRUCTURED + told + goes
    address = Address(path=str(tmp_path / "s"))
    with socket.socket(socket.AF_UNIX) as server, ExitStack() as stack:
        server.bind(address.path)
        server.listen()
        accepted: list[socket.socket] = []

        def accept(_: int) -> None:
            accepted.append(stack.enter_context(server.accept()[0]))
            accepted[0].sendall(says)

        loop.add(server.fileno(), accept)
        device = stack.enter_context(NbdDevice.connect(loop, address))
        loop.remove(server.fileno())
        accepted[0].recv(4096)  # what was negotiated
        device.submit(Kind.READ, 0, 0, 512, None, lambda *_: None)
        device.kick()
        _, flags, kind, *_ = p.REQUEST.unpack(accepted[0].recv(4096))
    assert (flags, kind) == (Flag.DF if context else 0, Kind.READ)


def listens(path: Path) -> bool:
    """Whether a server listens: its socket appears a little earlier."""
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


def do(
    loop: Loop, device: NbdDevice, kind: int, offset: int, length: int, data: bytes | None = None
) -> tuple[int, Data | None, Extents]:
    answers: list[tuple[int, Data | None, Extents]] = []
    device.submit(kind, 0, offset, length, data, lambda *answer: answers.append(answer))
    device.kick()
    while not answers:
        loop.poll(1)
    return answers[0]


def test_large_requests_come_back_in_one_piece(loop: Loop, device: NbdDevice) -> None:
    data = pattern(300_000)
    assert device.export.sizes.maximum == 65536
    assert do(loop, device, Kind.WRITE, 1000, len(data), data) == (0, None, [])
    assert do(loop, device, Kind.READ, 0, 302_000) == (0, bytes(1000) + data + bytes(1000), [])


def test_a_large_request_that_fails_in_its_middle(loop: Loop, device: NbdDevice) -> None:
    error, data, _ = do(loop, device, Kind.READ, SIZE - 100_000, 200_000)
    assert error == errno.EINVAL
    assert data is None


def test_block_status(loop: Loop, device: NbdDevice) -> None:
    assert device.has_block_status
    do(loop, device, Kind.WRITE, 65536, 512, b"x" * 512)
    error, _, extents = do(loop, device, Kind.BLOCK_STATUS, 0, SIZE)
    assert error == 0
    assert extents[0] == (65536, HOLE)
    assert sum(length for length, _ in extents) >= SIZE


def test_what_is_in_flight_when_the_server_goes_away(loop: Loop, device: NbdDevice) -> None:
    answers: list[int] = []
    for _ in range(3):
        device.submit(Kind.READ, 0, 0, 512, None, lambda error, *_: answers.append(error))
    device.channel.sock.shutdown(socket.SHUT_RDWR)
    while device.lost is None:
        device.kick()
        loop.poll(0.01)
    device.submit(Kind.READ, 0, 0, 512, None, lambda error, *_: answers.append(error))
    device.submit(Kind.FLUSH, 0, 0, 0, None, lambda error, *_: answers.append(error))
    assert answers == [CONNECTION_LOST] * 5


def test_replies_after_the_connection_was_found_lost(loop: Loop) -> None:
    """The handler of the first of two replies sends, and so finds that the connection is lost: both
    requests have got their answer then."""
    ours, theirs = socket.socketpair()
    with theirs, NbdDevice(loop, ours, Address(path="none")) as device:
        answers: list[tuple[int, int]] = []

        def first(error: int, data: Data | None, extents: Extents) -> None:
            answers.append((0, error))
            device._disconnected(None)

        device._waiting = {0: first, 1: lambda error, data, extents: answers.append((1, error))}
        for cookie in (0, 1):
            device._replied(Reply(cookie, 0, None, []))
    assert answers == [(0, 0), (1, CONNECTION_LOST)]
