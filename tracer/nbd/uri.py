"""NBD addresses: nbd://, nbds://, nbd+unix:// and nbds+unix:// URIs, and the argument of
``--listen``.

The specification is doc/uri.md of https://github.com/NetworkBlockDevice/nbd. The parameters for TLS
that it does not have are those of libnbd's nbd_connect_uri(3).
"""

import re
from dataclasses import dataclass, replace
from urllib.parse import SplitResult, quote, unquote, urlsplit

from tracer.errors import UsageError
from tracer.nbd.protocol import MAX_STRING

DEFAULT_PORT = 10809

SCHEMES = {
    "nbd": (False, False),
    "nbd+tcp": (False, False),
    "nbd+unix": (True, False),
    "nbds": (False, True),
    "nbds+tcp": (False, True),
    "nbds+unix": (True, True),
}
"""The schemes: whether the server is on a unix socket, and whether the connection uses TLS. QEMU
writes +tcp."""

TRUTH = {"1": True, "true": True, "yes": True, "on": True}
TRUTH |= {"0": False, "false": False, "no": False, "off": False}
"""The values of tls-verify-peer: the specification has 0 and 1, people write the others."""

OLD_QEMU = re.compile(
    r"nbd:(?:unix:(?P<path>[^:]+)|(?P<at>[^/:][^:]*:\d+))(?::exportname=(?P<name>.*))?"
)
"""QEMU's way of naming an export before there were URIs."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How a TLS connection is authenticated: with certificates, or with a pre-shared key."""

    certificates: str = ""
    """The folder with ca-cert.pem and perhaps a certificate and key of our own. Empty: a client
    trusts the system's authorities."""
    psk_file: str = ""
    """The file with pre-shared keys, ``USER:HEX`` in each line."""
    username: str = ""
    """Whose key a client uses. Empty: the only one in the file, or that of who runs us."""
    hostname: str = ""
    """The name to look for in the server's certificate. Empty: the host of the address."""
    verify_peer: bool = True
    """Whether a client checks the server's certificate, and a server the client's."""


@dataclass(frozen=True, slots=True)
class Address:
    """The address of an NBD server: the path of a unix socket, or a host and a port."""

    export: str = ""
    path: str = ""
    host: str = ""
    port: int = DEFAULT_PORT
    tls: Tls | None = None
    """None: the connection is not encrypted."""

    def uri(self) -> str:
        """Return the address as a URI."""
        scheme = ("nbd" if self.tls is None else "nbds") + ("+unix" if self.path else "")
        tls = self.tls or Tls()
        server = ""
        if not self.path:
            host = quote(self.host, safe=":", errors="surrogateescape")
            server = f"[{host}]" if ":" in self.host else host
            server += f":{self.port}"
        user = f"{quote(tls.username, safe='')}@" if tls.username else ""
        parameters = {
            "socket": self.path,
            "tls-certificates": tls.certificates,
            "tls-psk-file": tls.psk_file,
            "tls-hostname": tls.hostname,
            "tls-verify-peer": "" if tls.verify_peer else "0",
        }
        query = "&".join(f"{name}={_quote(value)}" for name, value in parameters.items() if value)
        return f"{scheme}://{user}{server}/{_quote(self.export)}{'?' if query else ''}{query}"


def is_uri(text: str) -> bool:
    """Whether ``text`` looks like an NBD URI, supported or not."""
    scheme = text.partition("://")[0].lower()
    return "://" in text and scheme.split("+")[0] in ("nbd", "nbds")


def modern(text: str) -> str | None:
    """Return the URI for what QEMU wrote before there were URIs, ``nbd:HOST:PORT`` or
    ``nbd:unix:PATH``; None if ``text`` is neither."""
    found = OLD_QEMU.fullmatch(text)
    if found is None:
        return None
    name = _quote(found["name"] or "")
    if found["path"]:
        return f"nbd+unix:///{name}?socket={_quote(found['path'])}"
    return f"nbd://{found['at']}/{name}"


def parse_uri(text: str) -> Address:
    """Return the address in a URI. Raises UsageError."""
    try:
        return _parse(text)
    except (ValueError, UsageError) as error:
        raise UsageError(f"{text!r} is not an NBD URI: {error}") from error


def parse_name(name: str, where: str = "") -> str:
    """Return an export's name. Raises UsageError, which begins with ``where`` the name stands, if
    no export can have it."""
    try:
        right = "\0" not in name and len(name.encode()) <= MAX_STRING
    except UnicodeEncodeError:  # bytes of the command line that are no UTF-8
        right = False
    if not right:
        raise UsageError(
            f"{where}an export's name is UTF-8 without NUL, at most {MAX_STRING} bytes long"
        )
    return name


def served_tls(certificates: str | None, psk_file: str | None, *, verify_peer: bool) -> Tls | None:
    """Return what --tls-certificates, --tls-psk and --tls-verify-peer ask for. Raises UsageError if
    they do not go together."""
    if verify_peer and certificates is None:
        raise UsageError("--tls-verify-peer needs --tls-certificates")
    if certificates is not None and psk_file is not None:
        raise UsageError("give --tls-certificates or --tls-psk, not both")
    if certificates is None and psk_file is None:
        return None
    return Tls(certificates or "", psk_file or "", verify_peer=verify_peer)


def parse_listen(text: str) -> Address:
    """Return the address in ``unix:PATH`` or ``tcp:HOST:PORT``. Raises UsageError.

    Port 0 lets the kernel choose a port.
    """
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest:
        return Address(path=rest)
    host, _, port = rest.rpartition(":")
    if kind == "tcp" and host and port.isdigit() and int(port) < 65536:
        return Address(host=host.strip("[]"), port=int(port))
    raise UsageError(f"--listen {text!r}: write unix:PATH or tcp:HOST:PORT")


def _parse(text: str) -> Address:
    """Return the address in a URI. Raises ValueError with what is wrong."""
    parts = urlsplit(text)  # the host in brackets is checked here, the port below
    unix, tls = SCHEMES.get(parts.scheme, (None, False))
    if unix is None:
        raise ValueError(f"{parts.scheme}:// is not supported, only {', '.join(SCHEMES)}")
    if re.search("%(?![0-9A-Fa-f]{2})", text):
        raise ValueError("write a % that is meant as such as %25")
    if "#" in text:
        raise ValueError("write # as %23")
    if any(character <= " " for character in text):  # urlsplit would leave some out
        raise ValueError("write spaces and control characters as %20 and so on")
    parameters = _parameters(parts)
    path = parameters.pop("socket", "")
    if unix and not path:
        raise ValueError(f"it names no socket: write {parts.scheme}:///?socket=PATH")
    if unix and parts.hostname:
        raise ValueError(f"it has a host and is for a unix socket: write {parts.scheme}:///")
    if path and not unix:
        raise ValueError(f"socket= is for {parts.scheme.partition('+')[0]}+unix://")
    if parts.port == 0:
        raise ValueError("there is no port 0")
    export = parse_name(_unquote(parts.path.removeprefix("/")))
    if tls:
        security = _tls(parameters, _unquote(parts.username or ""))
    elif parameters:
        raise ValueError(f"{next(iter(parameters))} is for nbds:// and nbds+unix://")
    else:
        security = None
    if unix:
        return Address(export, path=path, tls=security)
    host = _unquote(parts.hostname or "") or "localhost"
    return Address(export, host=host, port=parts.port or DEFAULT_PORT, tls=security)


def _parameters(parts: SplitResult) -> dict[str, str]:
    """Return what stands behind the "?". In a URI, unlike in a form, "+" is no space."""
    known = ("socket", "tls-type", "tls-certificates", "tls-psk-file", "tls-username",
             "tls-hostname", "tls-verify-peer")  # fmt: skip
    found: dict[str, str] = {}
    for pair in filter(None, parts.query.split("&")):
        name, _, value = pair.partition("=")
        if name.startswith("x-"):  # an experiment of somebody else's
            continue
        if name not in known:
            raise ValueError(f"unknown parameter {name}; known are {', '.join(known)}")
        if name in found:
            raise ValueError(f"{name} stands there twice")
        found[name] = unquote(value, errors="surrogateescape")  # a path may have any bytes
    return found


def _tls(parameters: dict[str, str], username: str) -> Tls:
    tls = Tls(
        certificates=parameters.get("tls-certificates", ""),
        psk_file=parameters.get("tls-psk-file", ""),
        username=username or parameters.get("tls-username", ""),
        hostname=parameters.get("tls-hostname", ""),
    )
    verify = parameters.get("tls-verify-peer", "1").lower()
    if verify not in TRUTH:
        raise ValueError("tls-verify-peer is 0 or 1")
    kind = parameters.get("tls-type", "psk" if tls.psk_file else "x509")
    if kind not in ("x509", "psk"):
        raise ValueError("tls-type is x509 or psk: TLS without either proves nothing")
    if (kind == "psk") != bool(tls.psk_file) or (tls.psk_file and tls.certificates):
        raise ValueError("give either tls-psk-file (tls-type psk) or tls-certificates (x509)")
    return replace(tls, verify_peer=TRUTH[verify])


def _quote(text: str) -> str:
    return quote(text, errors="surrogateescape")


def _unquote(text: str) -> str:
    """Decode %XX. Raises ValueError if the bytes are not UTF-8."""
    return unquote(text, errors="strict")
