"""What authenticates a TLS connection: certificates, or pre-shared keys, read from files.

The files' names and formats are those of libnbd, nbdkit and QEMU. A folder of certificates has
``ca-cert.pem``, and ``client-cert.pem`` and ``client-key.pem`` or ``server-cert.pem`` and
``server-key.pem``; perhaps ``ca-crl.pem``. A file of keys has lines ``USER:HEX``, as psktool(1)
writes them.
"""

import getpass
import ssl
import sys
from pathlib import Path

from tracer.errors import UsageError
from tracer.nbd.client import Client, Reply
from tracer.nbd.tls import Secured
from tracer.nbd.uri import Address, Tls

PSK_CIPHERS = ":".join(f"k{kind}PSK+{cipher}" for kind in ("ECDHE", "DHE", "")
                       for cipher in ("CHACHA20", "AESGCM"))  # fmt: skip
"""Key exchanges with a pre-shared key. All but the last keep a connection secret that somebody has
recorded, if the key becomes known later."""


def secured(client: Client, address: Address) -> Secured[Reply]:
    """Return the client inside of TLS, as the address wants it. Raises UsageError if a file cannot
    be used, TlsError if no certificate can have the host's name."""
    assert address.tls is not None
    hostname = address.tls.hostname or address.host
    context = client_context(address.tls)
    # the path of a unix socket is no name that a certificate could have
    context.check_hostname = context.check_hostname and bool(hostname)
    return Secured(client, context, server_side=False, hostname=hostname or None)


def client_context(tls: Tls) -> ssl.SSLContext:
    """Return the context of a client. Raises UsageError if a file cannot be used."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    if tls.psk_file:
        _offer_key(context, tls)
        return context
    if not tls.verify_peer:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if not tls.certificates:
        context.load_default_certs()
        return context
    folder = Path(tls.certificates)
    if tls.verify_peer:
        _trust(context, folder)
    if (folder / "client-cert.pem").exists() or (folder / "client-key.pem").exists():
        _show(context, folder, "client")
    elif not folder.is_dir():
        raise UsageError(f"cannot read {folder}: it is no folder of certificates")
    return context


def server_context(tls: Tls) -> ssl.SSLContext:
    """Return the context of a server. Raises UsageError if a file cannot be used."""
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # no client resumes a session
    if tls.psk_file:
        _take_keys(context, tls.psk_file)
        return context
    folder = Path(tls.certificates)
    _show(context, folder, "server")
    if tls.verify_peer:
        _trust(context, folder)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def for_guests(tls: Tls) -> Tls:
    """Return what a client on this machine needs for a server with these credentials: the user of
    the first key, or the folder if it has the authority's certificate."""
    if tls.psk_file:
        return Tls(psk_file=str(Path(tls.psk_file).absolute()), username=next(iter(keys(tls))))
    folder = Path(tls.certificates).absolute()
    return Tls(certificates=str(folder) if (folder / "ca-cert.pem").exists() else "")


def keys(tls: Tls) -> dict[str, bytes]:
    """Return the pre-shared keys by user. Raises UsageError if the file cannot be used."""
    found: dict[str, bytes] = {}
    try:
        lines = Path(tls.psk_file).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(tls.psk_file, error) from error
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        user, _, key = line.strip().rpartition(":")
        try:
            secret = bytes.fromhex(key)
        except ValueError:
            secret = b""
        if not user or not secret:
            raise UsageError(f"{tls.psk_file}: line {number} is not USER:HEX")
        found[user] = secret
    if not found:
        raise UsageError(f"{tls.psk_file} has no key: a line of it is USER:HEX")
    return found


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # "TLS versions": the oldest that is required
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def _trust(context: ssl.SSLContext, folder: Path) -> None:
    """Trust the authority of a folder, and what it revokes."""
    revoked = folder / "ca-crl.pem"
    for path in (folder / "ca-cert.pem", *([revoked] if revoked.exists() else [])):
        _read(path)  # ssl does not say which file is missing
        try:
            context.load_verify_locations(path)
        except OSError as error:
            raise UsageError(f"{path} has nothing of an authority's, in PEM") from error
    if revoked.exists():
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _show(context: ssl.SSLContext, folder: Path, side: str) -> None:
    """Show the peer our certificate."""
    certificate, key = folder / f"{side}-cert.pem", folder / f"{side}-key.pem"
    for path in (certificate, key):
        _read(path)  # ssl does not say which of the two is missing
    try:
        context.load_cert_chain(certificate, key, password=lambda: b"")  # no prompt
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{certificate} and {key.name} are not a certificate and its key (without password), "
            "in PEM"
        ) from error


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path | str, error: OSError | UnicodeDecodeError) -> UsageError:
    return UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is no text'}")


def _need_psk() -> None:
    if sys.version_info < (3, 13) or not ssl.HAS_PSK:
        version = ".".join(map(str, sys.version_info[:3]))
        raise UsageError(
            f"TLS with pre-shared keys needs Python 3.13 or later, and this is {version}: "
            "use certificates"
        )


def _offer_key(context: ssl.SSLContext, tls: Tls) -> None:
    """Use a user's key instead of certificates."""
    _need_psk()
    secrets = keys(tls)
    user = tls.username or (next(iter(secrets)) if len(secrets) == 1 else _login())
    if user not in secrets:
        known = ", ".join(list(secrets)[:10])
        raise UsageError(f"{tls.psk_file} has no key of {user}, only of {known}")
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the key proves who the server is
    _only_psk(context)
    if sys.version_info >= (3, 13):
        context.set_psk_client_callback(lambda hint: (user, secrets[user]))


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return ""


def _take_keys(context: ssl.SSLContext, path: str) -> None:
    """Let in whoever has a key of the file."""
    _need_psk()
    secrets = keys(Tls(psk_file=path))
    _only_psk(context)
    if sys.version_info >= (3, 13):
        # an empty key refuses the client
        context.set_psk_server_callback(lambda user: secrets.get(user or "", b""))


def _only_psk(context: ssl.SSLContext) -> None:
    # TLS 1.3 has other ciphers, which Python's callbacks do not choose
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(PSK_CIPHERS)
