"""Where ``trace record`` listens, and guests that come and go."""

from pathlib import Path

from tests.blkbox.commands.recorded import mine, record
from tests.kit.command import finish, recording
from tests.kit.guests import nbdsh
from tests.kit.peers import need, peer
from tests.kit.traces import kinds


def test_tcp_on_loopback(tmp_path: Path) -> None:
    need("qemu-io")
    with recording(
        "t.trace", "--driver", "raw", "--size", "1M", "--listen", "tcp:127.0.0.1:0", cwd=tmp_path
    ) as (process, uri):
        assert uri.startswith("nbd://127.0.0.1:")
        assert not uri.startswith("nbd://127.0.0.1:0")
        peer("qemu-io", "-f", "raw", "-c", "write -P 1 0 4k", "-c", "read -P 1 0 4k", uri)
        assert finish(process)[0] == 0
    assert "write" in kinds(mine(tmp_path))


def test_a_unix_socket_by_name_is_private_and_goes_away(tmp_path: Path) -> None:
    need("qemu-io")
    socket = tmp_path / "my socket"
    with recording(
        "t.trace", "--driver", "raw", "--size", "1M", "--listen", f"unix:{socket}", cwd=tmp_path
    ) as (process, uri):
        assert socket.stat().st_mode & 0o777 == 0o600
        peer("qemu-io", "-f", "raw", "-c", "read 0 4k", uri)
        assert finish(process)[0] == 0
    assert not socket.exists()


def test_several_guests_one_after_the_other(tmp_path: Path) -> None:
    need("qemu-io")
    with recording("t.trace", "--driver", "qcow2", "--size", "1M", cwd=tmp_path) as (process, uri):
        for at in range(3):
            peer("qemu-io", "-f", "raw", "-c", f"write -P 1 {at * 512} 512", uri)
        peer("qemu-io", "-f", "raw", "-c", "read -P 1 0 1536", uri)
        assert finish(process)[0] == 0
    assert {op.connection for op in mine(tmp_path)} == {1, 2, 3, 4}


def test_once_ends_when_the_last_client_has_left(tmp_path: Path) -> None:
    need("qemu-io")
    with recording("t.trace", "--driver", "raw", "--size", "1M", "--once", cwd=tmp_path) as (
        process,
        uri,
    ):
        peer("qemu-io", "-f", "raw", "-c", "write 0 512", uri)
        code, out, _ = finish(process, None)
    assert code == 0
    assert "verdict:  clean" in out


def test_a_private_socket_is_removed(tmp_path: Path) -> None:
    with recording("t.trace", "--driver", "raw", "--size", "1M", cwd=tmp_path) as (process, uri):
        folder = Path(uri.partition("socket=")[2]).parent
        assert folder.stat().st_mode & 0o777 == 0o700
        finish(process)
    assert not folder.exists()


def test_a_client_that_talks_nonsense_disturbs_no_other(tmp_path: Path) -> None:
    need("nbdsh")
    script = """
import os, socket
path = os.environ["NBD_URI"].partition("socket=")[2]
for nonsense in (b"GET / HTTP/1.0\\r\\n\\r\\n", bytes(100), b""):
    rude = socket.socket(socket.AF_UNIX)
    rude.connect(path)
    rude.sendall(nonsense)
    rude.close()
    h.pwrite(b"fine" * 128, 0)
    assert h.pread(512, 0) == b"fine" * 128
"""
    assert record(tmp_path, "raw", *nbdsh(script))["connections"] == 4


def test_a_guest_that_hangs_up_in_the_middle(tmp_path: Path) -> None:
    need("nbdsh")
    script = """
import os
h.pwrite(b"a" * 512, 0)
h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b"b" * (8 << 20))), 0)
os._exit(0)
"""
    record(tmp_path, "qcow2", *nbdsh(script))
