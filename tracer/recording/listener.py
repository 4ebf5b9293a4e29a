"""The address at which guests connect: choose it, check it, listen on it."""

import ipaddress
import os
import socket
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tracer.disk.private import PrivateFolder, Use
from tracer.errors import UsageError
from tracer.nbd.uri import Address, Tls, parse_listen

if TYPE_CHECKING:  # it takes time to load, and few recordings need it
    from ssl import SSLContext


class Listening(Protocol):
    """Options that say where to listen, and for whom."""

    @property
    def listen(self) -> str | None: ...
    @property
    def allow_remote(self) -> bool: ...
    @property
    def export_name(self) -> str: ...
    @property
    def tls(self) -> Tls | None: ...


def listen(options: Listening, stack: ExitStack) -> tuple[socket.socket, Address]:
    """Listen on ``options.listen`` or on a private unix socket until the stack unwinds. Return the
    socket and the address that a guest needs. Raises UsageError if the address cannot be used."""
    address = listen_address(options)
    if address is None:
        folder = stack.enter_context(PrivateFolder(Use.GUESTS))
        address = Address(path=str(folder.path / "nbd"))
    family = socket.AF_UNIX
    if not address.path:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    stack.callback(sock.close)
    try:
        if address.path:
            sock.bind(address.path)
            stack.callback(Path(address.path).unlink, missing_ok=True)
            os.chmod(address.path, 0o600)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address.host, address.port))
            address = Address(host=address.host, port=sock.getsockname()[1])
        sock.listen(64)
    except OSError as error:
        raise UsageError(f"cannot listen on {address.uri()}: {error.strerror or error}") from error
    address = replace(address, export=options.export_name)
    if options.tls is not None:
        from tracer.disk.credentials import for_guests

        address = replace(address, tls=for_guests(options.tls))
    return sock, address


def security(options: Listening) -> "SSLContext | None":
    """Return the context of guests' TLS, None without TLS. Raises UsageError if a file cannot be
    used."""
    if options.tls is None:
        return None
    from tracer.disk.credentials import server_context

    return server_context(options.tls)


def listen_address(options: Listening) -> Address | None:
    """Return the address that --listen names; None for a private unix socket. Raises UsageError if
    it is not valid, if other machines can reach it and --allow-remote is not given, or if the files
    for TLS cannot be used."""
    security(options)
    if options.listen is None:
        return None
    address = parse_listen(options.listen)
    if not address.path and not options.allow_remote and not _is_loopback(address.host):
        raise UsageError(
            f"{address.host} can be reached from other machines, and NBD has no password: "
            "give --allow-remote to listen there all the same, best with --tls-psk or "
            "--tls-verify-peer"
        )
    return address


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
