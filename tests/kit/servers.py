"""NBD servers that run already when a recording or a replay starts."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kit.peers import background, need
from tests.kit.system import wait_until


def free_port() -> int:
    """A TCP port of the loopback addresses that nobody uses; most likely for a while."""
    with socket.create_server(("localhost", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def listens(path: Path) -> bool:
    """Whether a server listens on a unix socket: the file appears a little earlier."""
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


def listens_at(port: int) -> bool:
    """Whether a server listens on a port of localhost."""
    with socket.socket() as sock:
        return sock.connect_ex(("localhost", port)) == 0


@contextmanager
def nbdkit(folder: Path, *words: object) -> Iterator[Path]:
    """nbdkit with options and a plugin, on a unix socket."""
    need("nbdkit")
    path = folder / "nbdkit.sock"
    with background("nbdkit", "--foreground", f"--unix={path}", *words, cwd=folder):
        wait_until(lambda: listens(path))
        yield path


@contextmanager
def qemu_nbd(folder: Path, *words: object) -> Iterator[int]:
    """qemu-nbd with options and an image, on a port of localhost."""
    need("qemu-nbd")
    port = free_port()
    command = ("qemu-nbd", "--persistent", "--shared=4", "--discard=unmap", "--format=raw")
    with background(*command, "--bind=localhost", f"--port={port}", *words, cwd=folder):
        wait_until(lambda: listens_at(port))
        yield port
