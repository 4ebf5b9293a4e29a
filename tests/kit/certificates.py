"""Certificates and pre-shared keys for TLS, in folders as libnbd, nbdkit and QEMU want them."""

import sys
from pathlib import Path

import pytest

from tests.kit.peers import need, peer

NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"
"""Whom the servers' certificates are for."""

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")

KEYS = "alice:00112233445566778899aabbccddeeff\nbob:ffeeddccbbaa99887766554433221100\n"
"""What psktool(1) writes: users and their keys."""

needs_psk = pytest.mark.skipif(
    sys.version_info < (3, 13), reason="TLS with pre-shared keys needs Python 3.13"
)


def certificates(folder: Path) -> Path:
    """Make an authority, and a server and a client that it certifies. Returns the folder."""
    need("openssl")
    folder.mkdir()

    def openssl(*words: object) -> None:
        peer("openssl", *words, cwd=folder)

    openssl("req", "-x509", *KEY, "-keyout", "ca-key.pem", "-out", "ca-cert.pem", "-days", "30",
            "-subj", "/CN=authority")  # fmt: skip
    for side in ("server", "client"):
        extensions = folder / "extensions"
        extensions.write_text(f"{NAMES}\nextendedKeyUsage={side}Auth\nbasicConstraints=CA:FALSE\n")
        openssl(
            "req", *KEY, "-keyout", f"{side}-key.pem", "-out", "request", "-subj", f"/CN={side}"
        )
        openssl("x509", "-req", "-in", "request", "-CA", "ca-cert.pem", "-CAkey", "ca-key.pem",
                "-CAcreateserial", "-days", "30", "-extfile", "extensions",
                "-out", f"{side}-cert.pem")  # fmt: skip
    return folder


def revoke(folder: Path, side: str) -> None:
    """Let the folder's authority revoke a certificate."""
    (folder / "index").write_text("")
    (folder / "ca.conf").write_text(
        "[ca]\ndefault_ca=here\n[here]\ndatabase=index\ndefault_md=sha256\ndefault_crl_days=30\n"
    )
    words = (
        "openssl",
        "ca",
        "-config",
        "ca.conf",
        "-cert",
        "ca-cert.pem",
        "-keyfile",
        "ca-key.pem",
    )
    peer(*words, "-revoke", f"{side}-cert.pem", cwd=folder)
    peer(*words, "-gencrl", "-out", "ca-crl.pem", cwd=folder)


def only_authority(folder: Path, source: Path) -> Path:
    """Make a folder for a client without a certificate of its own. Returns the folder."""
    folder.mkdir()
    (folder / "ca-cert.pem").write_bytes((source / "ca-cert.pem").read_bytes())
    return folder


def pre_shared(folder: Path) -> Path:
    """Make a folder with a file of keys, as QEMU wants it. Returns the file."""
    folder.mkdir()
    (folder / "keys.psk").write_text(KEYS)
    return folder / "keys.psk"
