"""A guest's NBD connection: its requests that wait for the mirror, and its replies that wait to be
sent."""

import socket
from collections import deque

from tracer.disk.channel import Channel
from tracer.disk.loop import Loop
from tracer.nbd.protocol import Export
from tracer.nbd.server import Request, Server


class Guest:
    """A guest, as its connection shows it."""

    def __init__(self, export: Export, loop: Loop, sock: socket.socket, number: int) -> None:
        self.number = number
        self.server = Server(export)
        self.backlog: deque[Request] = deque()
        """Requests that came in and are not in the mirror yet."""
        self.in_flight = 0
        """Requests in the mirror."""
        self.gone = False
        """Whether the connection is closed or broken."""
        self.channel: Channel[Request] = Channel(
            loop, sock, self.server, self.backlog.append, self._closed
        )
        self.channel.send()  # the server speaks first

    def _closed(self, _: Exception | None) -> None:
        # an error concerns this connection alone: other guests go on
        self.gone = True
        self.backlog.clear()

    def unsent(self) -> int:
        """Return the bytes of replies that the guest has not fetched."""
        return sum(len(buffer) for buffer in self.server.outgoing)
