"""Guests that take more than they should: of connections, of memory, of time."""

import os
import resource
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kit.command import finish, recording
from tests.kit.guests import nbdsh
from tests.kit.peers import PEER_ENV, need, peer
from tests.kit.system import wait_until
from tracer.nbd import protocol as p
from tracer.recording import acceptor

RAW = ("t.trace", "--driver", "raw", "--size", "1M")

MEMORY = 300 << 10
"""KiB that a recorder may take at most."""


def connect(uri: str) -> socket.socket:
    """A client that has got the greeting."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(uri.partition("socket=")[2])
    sock.settimeout(30)
    return sock


def peak(pid: int) -> int:
    """The most memory that a process has had, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise AssertionError("no VmHWM")


def flood(uri: str, what: bytes, seconds: float = 2.0) -> None:
    """Send for some time, or until the recorder takes no more, and never read."""
    with connect(uri) as sock:
        sock.send(p.U32.pack(3))
        sock.setblocking(False)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                sock.send(what)
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                return


LIST = p.OPTION.pack(p.IHAVEOPT, p.Option.LIST, 0) * 4096
UNKNOWN = p.OPTION.pack(p.IHAVEOPT, 77, 0) * 4096
INFO = (p.OPTION.pack(p.IHAVEOPT, p.Option.INFO, 6) + bytes(6)) * 4096
GO = p.OPTION.pack(p.IHAVEOPT, p.Option.GO, 6) + bytes(6)
BAD = p.REQUEST.pack(p.REQUEST_MAGIC, 0, 99, 0, 0, 0) * 4096
READS = p.REQUEST.pack(p.REQUEST_MAGIC, 0, 0, 0, 0, 1 << 20) * 4096


@pytest.mark.slow
@pytest.mark.parametrize("what", [LIST, UNKNOWN, INFO, GO + BAD, GO + READS])
def test_a_guest_that_never_reads_takes_no_memory(tmp_path: Path, what: bytes) -> None:
    need("qemu-io")
    with recording(*RAW, cwd=tmp_path) as (process, uri):
        flood(uri, what)
        assert peak(process.pid) < MEMORY
        peer("qemu-io", "-f", "raw", "-c", "write 0 4k", uri)  # others are served
        assert finish(process)[0] == 0


def test_at_the_limit_of_descriptors_guests_wait(tmp_path: Path) -> None:
    need("qemu-io")
    with recording(*RAW, cwd=tmp_path) as (process, uri):
        used = len(os.listdir(f"/proc/{process.pid}/fd"))
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (used + 8, used + 8))
        crowd = [connect(uri) for _ in range(20)]
        assert process.stderr is not None
        told = process.stderr.readline()
        assert told == "blkbox: Too many open files: further guests wait until one leaves\n"
        before = os.times()
        spent = sum(cpu(process.pid))
        time.sleep(0.5)
        assert sum(cpu(process.pid)) - spent <= 10, f"it spins, in {os.times()[4] - before[4]} s"
        for sock in crowd:
            sock.close()
        peer("qemu-io", "-f", "raw", "-c", "write 0 4k", uri)
        assert finish(process)[0] == 0


def cpu(pid: int) -> tuple[int, int]:
    """The time that a process has used, in clock ticks (10 ms): user, system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


def test_a_guest_that_does_not_shake_hands_is_cut_off(tmp_path: Path) -> None:
    program = (
        "from tracer.recording import acceptor\n"
        "acceptor.HANDSHAKE = 0.3\n"
        "from blkbox.main import main\n"
        f"main(['record', {', '.join(map(repr, RAW))}])\n"
    )
    assert acceptor.HANDSHAKE == 30
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, env=PEER_ENV,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        uri = process.stderr.readline().split()[1]
        with connect(uri) as sock:
            greeting = sock.recv(100)
            assert struct.unpack(">QQH", greeting)[:2] == (p.NBDMAGIC, p.IHAVEOPT)
            assert sock.recv(100) == b""  # closed
        wait_until(lambda: process.poll() is None)
        process.terminate()
        process.communicate()


def test_a_guest_that_has_shaken_hands_may_be_idle(tmp_path: Path) -> None:
    need("nbdsh")
    with recording(*RAW, cwd=tmp_path) as (process, uri):
        peer(*(uri if word == "{nbd}" else word for word in nbdsh("import time; time.sleep(1)")))
        assert finish(process)[0] == 125  # no op
