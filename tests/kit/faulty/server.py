"""An NBD server with known defects.

    python -m tests.kit.faulty.server SOCKET IMAGE DEFECT STARTS

It speaks the protocol with ``tracer.nbd.server``; what it does with the image is in disk.py.
Requests that are in flight together are collected before any is carried out, where a defect depends
on that.
"""

import signal
import socket
import sys
from typing import Protocol

from tests.kit.faulty.defects import find
from tests.kit.faulty.disk import Disk, Reply, Request
from tracer.disk.channel import Channel
from tracer.disk.loop import Loop
from tracer.nbd import protocol as p
from tracer.nbd import server as nbd
from tracer.op import Kind

ABILITIES = (
    p.TransmissionFlag.HAS_FLAGS
    | p.TransmissionFlag.SEND_FLUSH
    | p.TransmissionFlag.SEND_FUA
    | p.TransmissionFlag.SEND_TRIM
    | p.TransmissionFlag.SEND_WRITE_ZEROES
)

SETTLE = 0.005
"""Seconds without a request after which a burst is taken to be complete: its sender hands it to the
kernel in one call, so what is still missing is on its way already."""


class Served(Protocol):
    """What the server serves."""

    size: int

    def do(self, burst: list[Request]) -> list[Reply]: ...


class Client:
    """One connection, and the requests of it that wait to be carried out."""

    def __init__(self, loop: Loop, sock: socket.socket, disk: Served) -> None:
        self.disk = disk
        self.server = nbd.Server(p.Export(disk.size, int(ABILITIES)))
        self.waiting: list[nbd.Request] = []
        self.channel: Channel[nbd.Request] = Channel(
            loop, sock, self.server, self.waiting.append, lambda _: None
        )
        self.channel.send()  # the server speaks first

    def act(self) -> None:
        """Carry out what waits, and answer."""
        requests, server = self.waiting.copy(), self.server
        self.waiting.clear()
        burst = [
            Request(one.kind, one.offset, one.length, bytes(one.data or b"")) for one in requests
        ]
        for request, reply in zip(requests, self.disk.do(burst), strict=True):
            if reply.error:
                server.reply_error(request, reply.error)
            elif request.kind == Kind.READ:
                server.reply_read(request, reply.data)
            elif request.kind == Kind.BLOCK_STATUS:
                server.reply_status(request, reply.extents)
            else:
                server.reply(request)
        self.channel.send()


def serve(path: str, disk: Served, patient: bool) -> None:
    """Serve a disk on a unix socket, until a signal ends it."""
    clients: list[Client] = []
    with Loop() as loop, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        loop.add(
            listener.fileno(), lambda _: clients.append(Client(loop, listener.accept()[0], disk))
        )
        while True:
            loop.poll()
            while patient and any(client.waiting for client in clients) and loop.poll(SETTLE):
                pass
            for client in clients:
                client.act()


def main() -> None:
    """Serve as the command line says; SIGTERM closes the disk in good order."""
    path, image, name, starts = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    defect = find(name)
    disk = Disk(image, defect, starts)
    try:
        serve(path, disk, patient=defect is not None and defect.needs_concurrency)
    finally:
        disk.close()


if __name__ == "__main__":
    main()
