"""A block driver with a bug, for the demo: an NBD server of a raw file.

It keeps data in clusters of 64 KiB. Of every 50th write that spans clusters, it forgets everything
after the first cluster boundary, like a driver that gives up on a partial completion.

Usage: defective.py SOCKET IMAGE
"""

import socket
import sys
from pathlib import Path

from tracer.disk.channel import Channel
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.nbd.server import Request, Server
from tracer.op import Kind

CLUSTER = 64 * 1024
EVERY = 50


class Disk:
    """A raw image, served with the bug."""

    def __init__(self, image: Path) -> None:
        self.file = FileDevice(image, durable=False)
        self.spanning = 0

    def handle(self, server: Server, request: Request) -> None:
        """Execute a request and reply to it."""
        kind, length, data = request.kind, request.length, request.data
        boundary = (request.offset // CLUSTER + 1) * CLUSTER
        if data is not None and request.offset + length > boundary:
            self.spanning += 1
            if self.spanning % EVERY == 0:
                length = boundary - request.offset  # the bug: the rest is lost
                data = data[:length]
        error, found, extents = self.file.execute(kind, 0, request.offset, length, data)
        if error:
            server.reply_error(request, error)
        elif kind == Kind.READ:
            server.reply_read(request, found or b"")
        elif kind == Kind.BLOCK_STATUS:
            server.reply_status(request, extents)
        else:
            server.reply(request)


def main() -> None:
    """Serve until a signal ends the process."""
    path, image = sys.argv[1:]
    disk, loop = Disk(Path(image)), Loop()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def accept(_: int) -> None:
        server = Server(disk.file.export)
        channel: Channel[Request] = Channel(
            loop,
            listener.accept()[0],
            server,
            lambda request: disk.handle(server, request),
            lambda error: None,
        )
        channel.send()

    loop.add(listener.fileno(), accept)
    while True:
        loop.poll()


if __name__ == "__main__":
    main()
