"""NBD addresses: nbd:// and nbd+unix:// URIs, and the argument of ``--listen``.

The specification is doc/uri.md of https://github.com/NetworkBlockDevice/nbd.
"""

from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tracer.errors import UsageError

DEFAULT_PORT = 10809


@dataclass(frozen=True, slots=True)
class Address:
    """The address of an NBD server: the path of a unix socket, or a host and a port."""

    export: str = ""
    path: str = ""
    host: str = ""
    port: int = DEFAULT_PORT

    def uri(self) -> str:
        """Return the address as a URI."""
        if self.path:
            return f"nbd+unix:///{quote(self.export)}?socket={quote(self.path)}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"nbd://{host}:{self.port}/{quote(self.export)}"


def is_uri(text: str) -> bool:
    """Whether ``text`` looks like an NBD URI, supported or not."""
    scheme = text.partition("://")[0]
    return "://" in text and scheme.split("+")[0] in ("nbd", "nbds")


def parse_uri(text: str) -> Address:
    """Return the address in a URI. Raises UsageError."""
    try:
        parts = urlsplit(text)
        port = parts.port or DEFAULT_PORT
    except ValueError as error:
        raise UsageError(f"{text!r} is not an NBD URI: {error}") from error
    export = unquote(parts.path.removeprefix("/"))
    if parts.scheme == "nbd+unix":
        socket = parse_qs(parts.query).get("socket", [""])[0]
        if not socket:
            raise UsageError(f"{text!r} names no socket: write nbd+unix:///?socket=PATH")
        return Address(export, path=socket)
    if parts.scheme == "nbd":
        return Address(export, host=parts.hostname or "localhost", port=port)
    raise UsageError(f"{text!r}: {parts.scheme}:// is not supported, only nbd:// and nbd+unix://")


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
