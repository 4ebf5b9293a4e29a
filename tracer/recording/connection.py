"""One guest: its connection, and what it asked for and has not got."""

import socket
from collections import deque

from tracer.disk.channel import Channel
from tracer.disk.loop import Loop
from tracer.nbd.protocol import Export
from tracer.nbd.server import Request, Server


class Guest:
    """One guest's connection."""

    def __init__(self, export: Export, loop: Loop, sock: socket.socket, number: int) -> None:
        self.number = number
        self.server = Server(export)
        self.backlog: deque[Request] = deque()
        self.in_flight = 0
        self.gone = False
        self.channel: Channel[Request] = Channel(
            loop, sock, self.server, self.backlog.append, self._closed
        )
        self.channel.send()  # the server speaks first

    def _closed(self, _: Exception | None) -> None:
        # whatever went wrong, it went wrong with this connection alone
        self.gone = True
        self.backlog.clear()

    def unsent(self) -> int:
        """Bytes of replies that the guest has not fetched."""
        return sum(len(buffer) for buffer in self.server.outgoing)
