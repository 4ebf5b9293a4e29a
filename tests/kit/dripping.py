"""An NBD server that never finishes.

    python -m tests.kit.dripping SOCKET SIZE HOW

HOW: ``hello`` sends half of the greeting and no more; ``option`` answers no option; ``empty``
answers a read with chunks that say nothing; ``bytes`` sends a read's data a byte at a time. Other
requests are done at once.
"""

import contextlib
import socket
import sys
import time

from tests.kit.faulty.server import ABILITIES
from tracer.nbd import protocol as p
from tracer.nbd.server import Request, Server
from tracer.op import Kind

PAUSE = 0.02
"""Seconds between two drops. All that the client allows of chunks without data take 20 s."""


def serve(sock: socket.socket, size: int, how: str) -> None:
    """Serve one connection to its end."""
    if how == "hello":
        sock.sendall(b"NBDMAGIC")
        sock.recv(1)
        return
    server = Server(p.Export(size, int(ABILITIES)))
    _send(sock, server)
    while count := sock.recv_into(server.target()):
        if how == "option" and count > 4:  # more than the client's flags
            continue
        for request in server.received(count):
            if request.kind == Kind.READ:
                _drip(sock, request, how)
            elif request.kind == Kind.BLOCK_STATUS:
                server.reply_status(request, [(request.length, 0)])
            else:
                server.reply(request)
        _send(sock, server)


def _send(sock: socket.socket, server: Server) -> None:
    for buffer in server.outgoing:
        sock.sendall(buffer)
    server.outgoing.clear()


def _drip(sock: socket.socket, request: Request, how: str) -> None:
    """Answer a read for ever."""
    magic, cookie = p.STRUCTURED_REPLY_MAGIC, request.cookie
    if how == "bytes":
        kind, length = p.ReplyType.OFFSET_DATA, 8 + request.length
        sock.sendall(p.CHUNK.pack(magic, 0, kind, cookie, length) + bytes(8))
    while True:
        time.sleep(PAUSE)
        empty = p.CHUNK.pack(magic, 0, p.ReplyType.NONE, cookie, 0)
        sock.sendall(b"\0" if how == "bytes" else empty)


def main() -> None:
    """Serve one connection after the other."""
    path, size, how = sys.argv[1:]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                serve(connection, int(size), how)


if __name__ == "__main__":
    main()
