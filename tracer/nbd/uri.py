"""NBD URIs (https://github.com/NetworkBlockDevice/nbd, doc/uri.md): nbd:// and nbd+unix://."""

from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tracer.errors import UsageError

DEFAULT_PORT = 10809


@dataclass(frozen=True, slots=True)
class Address:
    """Where an NBD server is: a unix socket's path, or a host and a port."""

    export: str = ""
    path: str = ""
    host: str = ""
    port: int = DEFAULT_PORT

    def uri(self) -> str:
        """The URI that names this address."""
        if self.path:
            return f"nbd+unix:///{quote(self.export)}?socket={quote(self.path)}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"nbd://{host}:{self.port}/{quote(self.export)}"


def is_uri(text: str) -> bool:
    """Whether this looks like an NBD URI of any flavour."""
    scheme = text.partition("://")[0]
    return "://" in text and scheme.split("+")[0] in ("nbd", "nbds")


def parse_uri(text: str) -> Address:
    """The address that a URI names. Raises UsageError."""
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
    """The address that ``--listen unix:PATH`` or ``--listen tcp:HOST:PORT`` names; port 0 is any."""
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest:
        return Address(path=rest)
    host, _, port = rest.rpartition(":")
    if kind == "tcp" and host and port.isdigit() and int(port) < 65536:
        return Address(host=host.strip("[]"), port=int(port))
    raise UsageError(f"--listen {text!r}: write unix:PATH or tcp:HOST:PORT")
