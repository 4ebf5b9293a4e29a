"""Certificates and keys that are read from files, and what is wrong with them."""

import ssl
import sys
from pathlib import Path

import pytest

from tests.kit.certificates import (
    KEYS,
    certificates,
    needs_psk,
    only_authority,
    pre_shared,
    revoke,
)
from tracer.disk.credentials import client_context, for_guests, keys, server_context
from tracer.errors import UsageError
from tracer.nbd.uri import Tls


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("tls") / "pki")


def copy(pki: Path, folder: Path, *names: str) -> str:
    """A folder with some of the files."""
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes((pki / name).read_bytes())
    return str(folder)


SERVER = ("server-cert.pem", "server-key.pem")


def test_a_server_asks_for_certificates_only_if_it_shall(pki: Path, tmp_path: Path) -> None:
    alone = copy(pki, tmp_path / "server", *SERVER)
    assert server_context(Tls(alone, verify_peer=False)).verify_mode == ssl.CERT_NONE
    assert server_context(Tls(str(pki))).verify_mode == ssl.CERT_REQUIRED
    with pytest.raises(UsageError, match=r"cannot read .*/ca-cert\.pem: No such file"):
        server_context(Tls(alone))


def test_a_client_checks_the_server_unless_it_shall_not(pki: Path, tmp_path: Path) -> None:
    for folder in ("", str(only_authority(tmp_path / "ca", pki)), str(pki)):
        context = client_context(Tls(folder))
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname
        context = client_context(Tls(folder, verify_peer=False))
        assert context.verify_mode == ssl.CERT_NONE
    assert client_context(Tls(copy(pki, tmp_path / "none"), verify_peer=False))


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ((), "ca-cert.pem"),
        (("ca-cert.pem", "client-cert.pem"), "client-key.pem"),
        (("ca-cert.pem", "client-key.pem"), "client-cert.pem"),
    ],
)
def test_what_a_client_misses(
    pki: Path, tmp_path: Path, names: tuple[str, ...], missing: str
) -> None:
    folder = copy(pki, tmp_path / "some", *names)
    with pytest.raises(UsageError, match=rf"^cannot read {folder}/{missing}: No such file"):
        client_context(Tls(folder))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    for tls in (Tls(str(tmp_path / "no")), Tls(str(tmp_path / "no"), verify_peer=False)):
        for context in (client_context, server_context):
            with pytest.raises(UsageError, match=f"^cannot read {tmp_path}/no"):
                context(tls)


@pytest.mark.parametrize("broken", ["ca-cert.pem", *SERVER])
@pytest.mark.parametrize("content", [b"", b"no certificate", b"\xff\xfe"])
def test_files_that_are_broken(pki: Path, tmp_path: Path, broken: str, content: bytes) -> None:
    folder = copy(pki, tmp_path / "some", "ca-cert.pem", *SERVER)
    (Path(folder) / broken).write_bytes(content)
    with pytest.raises(UsageError) as caught:
        server_context(Tls(folder))
    assert broken in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_of_another_certificate(pki: Path, tmp_path: Path) -> None:
    folder = copy(pki, tmp_path / "some", "server-cert.pem")
    (tmp_path / "some" / "server-key.pem").write_bytes((pki / "client-key.pem").read_bytes())
    with pytest.raises(UsageError, match="are not a certificate and its key"):
        server_context(Tls(folder, verify_peer=False))


def test_a_list_of_what_is_revoked_is_heeded(tmp_path: Path) -> None:
    folder = certificates(tmp_path / "pki")
    assert not server_context(Tls(str(folder))).verify_flags & ssl.VERIFY_CRL_CHECK_LEAF
    revoke(folder, "client")
    assert server_context(Tls(str(folder))).verify_flags & ssl.VERIFY_CRL_CHECK_LEAF
    (folder / "ca-crl.pem").write_text("no list")
    with pytest.raises(UsageError, match=r"ca-crl\.pem"):
        client_context(Tls(str(folder)))


def test_what_a_guest_needs(pki: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pki.parent)
    assert for_guests(Tls("pki", verify_peer=False)) == Tls(str(pki))
    alone = copy(pki, tmp_path / "server", *SERVER)
    assert for_guests(Tls(alone, verify_peer=False)) == Tls()
    path = pre_shared(tmp_path / "psk")
    monkeypatch.chdir(path.parent)
    assert for_guests(Tls(psk_file="keys.psk")) == Tls(psk_file=str(path), username="alice")


# ---------------------------------------------------------------- pre-shared keys


def psk(folder: Path, content: bytes | str) -> Tls:
    path = folder / "keys"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Tls(psk_file=str(path))


def test_keys(tmp_path: Path) -> None:
    assert keys(psk(tmp_path, "# psktool\n\n" + KEYS + "a:b:FF \n")) == {
        "alice": bytes.fromhex("00112233445566778899aabbccddeeff"),
        "bob": bytes.fromhex("ffeeddccbbaa99887766554433221100"),
        "a:b": b"\xff",
    }


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "has no key: a line of it is USER:HEX"),
        ("\n# nothing\n", "has no key"),
        ("alice:00\nbob\n", "line 2 is not USER:HEX"),
        ("alice:0g", "line 1 is not USER:HEX"),
        ("alice:", "line 1 is not USER:HEX"),
        (":00", "line 1 is not USER:HEX"),
        (b"\xff:00", "it is no text"),
    ],
)
def test_keys_that_are_refused(tmp_path: Path, content: bytes | str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        keys(psk(tmp_path, content))
    assert str(tmp_path / "keys") in str(caught.value)
    # a message never has a key in it
    assert "0g" not in str(caught.value)


def test_a_file_of_keys_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*/none: No such file"):
        keys(Tls(psk_file=str(tmp_path / "none")))


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="this Python has pre-shared keys")
def test_an_older_python_says_so(tmp_path: Path) -> None:
    for context in (client_context, server_context):
        with pytest.raises(UsageError, match=r"needs Python 3\.13 or later, and this is 3\."):
            context(psk(tmp_path, KEYS))


@needs_psk
def test_whose_key_a_client_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = psk(tmp_path, KEYS)
    monkeypatch.setenv("LOGNAME", "bob")
    assert client_context(tls)
    monkeypatch.setenv("LOGNAME", "eve")
    with pytest.raises(UsageError, match="has no key of eve, only of alice, bob"):
        client_context(tls)
    assert client_context(psk(tmp_path, "only:00"))
