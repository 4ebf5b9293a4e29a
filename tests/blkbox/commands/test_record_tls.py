"""TLS between ``trace`` and real programs: as servers (drivers) and as clients (guests)."""

import socket
import sys
from pathlib import Path

import pytest

from tests.blkbox.commands.recorded import SIZE, mine, record
from tests.kit.certificates import KEYS, certificates, needs_psk, only_authority, pre_shared
from tests.kit.command import finish, recording, trace
from tests.kit.data import pattern
from tests.kit.guests import qemu_io
from tests.kit.peers import need, peer
from tests.kit.servers import free_port, nbdkit, qemu_nbd
from tests.kit.system import entries
from tests.kit.traces import kinds
from tracer.disk.export import NbdDevice
from tracer.disk.loop import Loop
from tracer.errors import Exit, NbdError
from tracer.nbd import protocol as p
from tracer.nbd.uri import Address, Tls


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("tls") / "pki")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("tls") / "other")


GUEST = ("write -P 1 0 1M", "read -P 1 0 1M", "write -z 64k 64k", "discard 0 64k", "flush")


SERVED = ("t.trace", "--driver", "raw", "--size", SIZE)


def qemu_with(credentials: str, port: int, *commands: str) -> list[str]:
    """qemu-io as a guest with TLS. It does not take nbds:// URIs."""
    disk = f"driver=raw,discard=unmap,file.driver=nbd,file.host=localhost,file.port={port}"
    words = qemu_io(*commands)[7:-1]  # the commands alone
    credentials = f"{credentials},id=tls,endpoint=client"
    return ["qemu-io", "-t", "writeback", *words, "--object", credentials,
            "--image-opts", f"{disk},file.tls-creds=tls"]  # fmt: skip


# ---------------------------------------------------------------- guests


def test_nbdcopy_there_and_back(tmp_path: Path, pki: Path) -> None:
    need("nbdcopy")
    (tmp_path / "source").write_bytes(pattern(SIZE))
    record(tmp_path, "raw", "nbdcopy", "source", "{nbd}", options=["--tls-certificates", pki])
    with recording(
        *SERVED, "--force", "--tls-certificates", pki, "--tls-verify-peer", cwd=tmp_path
    ) as (process, uri):
        assert uri.startswith("nbds+unix:///?socket=")
        assert uri.endswith(f"&tls-certificates={pki}")
        peer("nbdcopy", uri, "copy", cwd=tmp_path)
        assert finish(process)[0] == 0
    assert (tmp_path / "copy").read_bytes() == pattern(SIZE)


def test_nbdinfo_says_that_it_is_encrypted(tmp_path: Path, pki: Path) -> None:
    need("nbdinfo")
    listen = ("--listen", "tcp:localhost:0", "--tls-certificates", pki)
    with recording(*SERVED, *listen, cwd=tmp_path) as (process, uri):
        assert uri.startswith("nbds://localhost:")
        assert "newstyle-fixed with TLS" in peer("nbdinfo", uri)
        finish(process)


def test_qemu_as_a_guest(tmp_path: Path, pki: Path) -> None:
    port = free_port()
    guest = qemu_with(f"tls-creds-x509,dir={pki}", port, *GUEST)
    options = ["--listen", f"tcp:localhost:{port}", "--tls-certificates", pki, "--tls-verify-peer"]
    record(tmp_path, "raw", *guest, options=options)
    assert {"write", "read", "trim", "zero", "flush"} <= set(kinds(mine(tmp_path)))


def test_guests_that_are_refused_and_one_that_is_not(
    tmp_path: Path, pki: Path, other: Path
) -> None:
    """Each gets its reason, and so does who records; the recording goes on."""
    need("nbdinfo", "nbdcopy")
    alone = only_authority(tmp_path / "ca", pki)
    with recording(
        *SERVED,
        "--listen",
        "unix:s",
        "--tls-certificates",
        pki,
        "--tls-verify-peer",
        cwd=tmp_path,
    ) as (process, uri):
        plain = peer("nbdinfo", "--size", "nbd+unix:///?socket=s", cwd=tmp_path, fails=True)
        assert "server requires TLS" in plain
        without = f"nbds+unix:///?socket=s&tls-certificates={alone}"
        peer("nbdinfo", without, cwd=tmp_path, fails=True)
        stranger = f"nbds+unix:///?socket=s&tls-certificates={other}"
        peer("nbdinfo", stranger, cwd=tmp_path, fails=True)
        (tmp_path / "source").write_bytes(pattern(SIZE))
        peer("nbdcopy", "source", uri, cwd=tmp_path)
        code, _, err = finish(process)
    assert code == 0
    assert err.splitlines() == [
        "blkbox: guest 2: TLS failed: peer did not return a certificate",
        "blkbox: guest 3: the peer's certificate is not valid: unable to get local issuer "
        "certificate (is its authority in ca-cert.pem?)",
    ]


def test_a_guest_that_does_not_trust_us(tmp_path: Path, pki: Path, other: Path) -> None:
    need("nbdinfo")
    listen = ("--listen", "tcp:localhost:0", "--tls-certificates", pki)
    with recording(*SERVED, *listen, cwd=tmp_path) as (process, uri):
        peer("nbdinfo", uri.replace(str(pki), str(other)), fails=True)
        err = finish(process)[2]
    assert err == ("blkbox: guest 1 left before TLS began: does it trust our certificate?\n")


def test_trace_serve_too(tmp_path: Path, pki: Path) -> None:
    need("nbdinfo")
    record(tmp_path, "raw", *qemu_io("write -P 1 0 4k"))
    options = ("--tls-certificates", pki, "--export-name", "old disk")
    done = trace("serve", "t.trace", *options, "--", "nbdinfo", "--list", "{nbd}", cwd=tmp_path)
    assert "with TLS" in done.stdout
    assert 'export="old disk"' in done.stdout


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--tls-certificates", "none"), "cannot read none/server-cert.pem: No such file"),
        (("--tls-verify-peer",), "--tls-verify-peer needs --tls-certificates"),
        (("--tls-certificates", "a", "--tls-psk", "b"), "give --tls-certificates or --tls-psk"),
        (("--export-name", "x" * 4097), "an export's name is UTF-8 without NUL, at most 4096"),
    ],
)
def test_options_that_cannot_be_served(tmp_path: Path, options: tuple[str, ...], why: str) -> None:
    done = trace("record", *SERVED, *options, cwd=tmp_path, expect=Exit.USAGE)
    assert why in done.stderr
    assert done.stderr.count("\n") == 1
    assert entries(tmp_path) == []


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="this Python has pre-shared keys")
def test_an_older_python_has_no_pre_shared_keys(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(KEYS)
    done = trace("record", *SERVED, "--tls-psk", "keys", cwd=tmp_path, expect=Exit.USAGE)
    assert "needs Python 3.13 or later" in done.stderr
    assert done.stderr.count("\n") == 1
    assert entries(tmp_path) == ["keys"]


# ---------------------------------------------------------------- drivers


def test_nbdkit_as_a_driver(tmp_path: Path, pki: Path) -> None:
    words = ("--tls=require", f"--tls-certificates={pki}", "--tls-verify-peer", "memory", SIZE)
    with nbdkit(tmp_path, *words) as path:
        record(tmp_path, f"nbds+unix:///?socket={path}&tls-certificates={pki}", *qemu_io(*GUEST))


def test_qemu_nbd_as_a_driver(tmp_path: Path, pki: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(SIZE))
    credentials = f"tls-creds-x509,id=tls,endpoint=server,dir={pki},verify-peer=yes"
    options = ("--object", credentials, "--tls-creds=tls", "--export-name=my disk", "image")
    with qemu_nbd(tmp_path, *options) as port:
        uri = f"nbds://localhost:{port}/my%20disk?tls-certificates={pki}"
        record(tmp_path, uri, *qemu_io(*GUEST))
        trace("replay", "t.trace", "--driver", uri, "--force", "--no-plot", cwd=tmp_path)


def refused(folder: Path, driver: str) -> str:
    """Record with a driver that cannot be had; why not."""
    done = trace(
        "record", "t.trace", "--driver", driver, "--size", SIZE, "--", "true",
        cwd=folder, expect=(Exit.UNDECIDABLE, Exit.USAGE),
    )  # fmt: skip
    assert done.stderr.count("\n") == 1, done.stderr
    assert "t.trace" not in entries(folder)
    return done.stderr.removeprefix("trace: ").rstrip()


def test_drivers_that_cannot_be_had(tmp_path: Path, pki: Path, other: Path) -> None:
    alone = only_authority(tmp_path / "ca", pki)
    (tmp_path / "image").write_bytes(bytes(SIZE))
    credentials = f"tls-creds-x509,id=tls,endpoint=server,dir={pki},verify-peer=yes"
    with qemu_nbd(tmp_path, "--object", credentials, "--tls-creds=tls", "image") as port:
        at = f"nbds://localhost:{port}/?tls-certificates="
        for uri, why in {
            f"{at}{other}": "the peer's certificate is not valid: unable to get local issuer",
            f"{at}{pki}&tls-hostname=example.com": "certificate is not valid for 'example.com'",
            f"{at}{alone}": "does it want a certificate (client-cert.pem and client-key.pem)?",
            f"nbd://localhost:{port}/": "not permitted before TLS (write nbds:// or nbds+unix://)",
        }.items():
            text = refused(tmp_path, uri)
            assert text.startswith(f"{uri}: "), text
            assert text.count(uri) == 1
            assert why in text
        text = refused(tmp_path, f"{at}{tmp_path}/none")
        assert text == f"cannot read {tmp_path}/none/ca-cert.pem: No such file or directory"


def test_a_driver_without_tls(tmp_path: Path, pki: Path) -> None:
    with nbdkit(tmp_path, "memory", SIZE) as path:
        text = refused(tmp_path, f"nbds+unix:///?socket={path}&tls-certificates={pki}")
    assert text.endswith(": the server refuses TLS: ERR_POLICY")


def test_a_handshake_that_never_ends(tmp_path: Path, pki: Path) -> None:
    """A server that agrees to TLS, and says no more."""
    agrees = p.OPTION_REPLY.pack(p.OPTION_REPLY_MAGIC, p.Option.STARTTLS, p.Rep.ACK, 0)
    address = Address(path=str(tmp_path / "s"), tls=Tls(str(pki)))
    with socket.socket(socket.AF_UNIX) as server, Loop() as loop:
        server.bind(address.path)
        server.listen()
        heard = b""

        def accept(_: int) -> None:
            connection, _ = server.accept()
            connections.append(connection)
            connection.send(p.HELLO.pack(p.NBDMAGIC, p.IHAVEOPT, 3))
            loop.add(connection.fileno(), hear)

        def hear(_: int) -> None:
            nonlocal heard
            heard += connections[0].recv(4096)
            if heard == p.U32.pack(3) + p.OPTION.pack(p.IHAVEOPT, p.Option.STARTTLS, 0):
                connections[0].send(agrees)

        connections: list[socket.socket] = []
        loop.add(server.fileno(), accept)
        with pytest.raises(NbdError, match=r"did not finish negotiating within 0\.3 s"):
            NbdDevice.connect(loop, address, timeout=0.3)
        for connection in connections:
            loop.remove(connection.fileno())
            connection.close()
        loop.remove(server.fileno())
    assert heard[p.U32.size + p.OPTION.size :][:1] == b"\x16"  # the client's half of a handshake


# ---------------------------------------------------------------- pre-shared keys


@needs_psk
def test_pre_shared_keys_of_guests(tmp_path: Path) -> None:
    need("nbdcopy", "nbdinfo")
    keys = pre_shared(tmp_path / "psk")
    (tmp_path / "source").write_bytes(pattern(SIZE))
    record(tmp_path, "raw", "nbdcopy", "source", "{nbd}", options=["--tls-psk", keys])
    port = free_port()
    options = ["--force", "--listen", f"tcp:localhost:{port}", "--tls-psk", keys]
    guest = qemu_with(f"tls-creds-psk,dir={keys.parent},username=bob", port, "write -P 1 0 64k")
    record(tmp_path, "raw", *guest, options=options)
    wrong = tmp_path / "wrong"
    wrong.write_text(f"alice:{'00' * 16}")
    with recording(*SERVED, "--force", "--listen", "unix:s", "--tls-psk", keys, cwd=tmp_path) as (
        process,
        uri,
    ):
        assert uri == f"nbds+unix://alice@/?socket=s&tls-psk-file={keys}"
        peer("nbdinfo", uri.replace(str(keys), str(wrong)), cwd=tmp_path, fails=True)
        assert "guest 1: TLS failed: " in finish(process)[2]


@needs_psk
def test_pre_shared_keys_of_drivers(tmp_path: Path) -> None:
    keys = pre_shared(tmp_path / "psk")
    (tmp_path / "wrong").write_text(f"alice:{'00' * 16}")
    with nbdkit(tmp_path, "--tls=require", f"--tls-psk={keys}", "memory", SIZE) as path:
        uri = f"nbds+unix://alice@/?socket={path}&tls-psk-file="
        record(tmp_path, f"{uri}{keys}", *qemu_io(*GUEST))
        (tmp_path / "t.trace").unlink()
        (tmp_path / "t.payloads").unlink()
        assert "has it the same key?" in refused(tmp_path, f"{uri}{tmp_path / 'wrong'}")
    (tmp_path / "image").write_bytes(bytes(SIZE))
    credentials = f"tls-creds-psk,id=tls,endpoint=server,dir={keys.parent}"
    with qemu_nbd(tmp_path, "--object", credentials, "--tls-creds=tls", "image") as port:
        uri = f"nbds://bob@localhost:{port}/?tls-psk-file={keys}"
        (tmp_path / "t.raw").unlink()
        record(tmp_path, uri, *qemu_io(*GUEST))
