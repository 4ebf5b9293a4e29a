"""Accepts guests on a listening socket, as long as there is room for one more."""

import errno
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tracer.disk.loop import READ, Loop
from tracer.nbd.protocol import Export
from tracer.recording.connection import Guest

if TYPE_CHECKING:
    from ssl import SSLContext

MAX_GUESTS = 256
"""Connections at a time. A guest has one for each of its queues, rarely more than 16; each takes
256 KiB for what it sends, and as much as it wants for replies that it does not fetch (see
MAX_UNSENT)."""

HANDSHAKE = 30.0
"""Seconds in which a guest must be done with the handshake. It takes milliseconds; a loaded machine
takes longer."""

FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""The errors of accept(2) that go on until something is freed."""


class Acceptor:
    """The guests that are connected, and the socket where others come from.

    ``say`` shows a message to the user, ``warn`` why a guest's TLS failed.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        export: Export,
        *,
        tls: "SSLContext | None" = None,
        say: Callable[[str], None] = lambda text: None,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.guests: list[Guest] = []
        self.count = 0
        """The number of guests that have connected so far."""
        self._loop = loop
        self._sock = sock
        self._export = export
        self._tls = tls
        self._say = say
        self._warn = warn
        self._waits = False  # whether guests wait for one to leave
        self._said = False
        sock.setblocking(False)
        loop.add(sock.fileno(), self._accept)

    def tidy(self) -> None:
        """Close the connections of guests that are done, or that never begin. If there is room
        again, accept those that wait."""
        before = len(self.guests)
        now = time.monotonic()
        for guest in self.guests:
            late = not guest.server.negotiated and now - guest.since > HANDSHAKE
            waits = guest.backlog or guest.in_flight or guest.channel.unsent
            if late or (guest.server.finished and not waits):
                guest.channel.close()
                guest.gone = True
        self.guests = [guest for guest in self.guests if not guest.gone]
        if self._waits and len(self.guests) < before:
            self._waits = False
            self._loop.change(self._sock.fileno(), READ)

    def disconnect(self) -> None:
        """Close all connections, after a last attempt to send the replies that wait."""
        for guest in self.guests:
            guest.channel.send()
            guest.channel.close()
        self.guests.clear()

    def close(self) -> None:
        """Take no more guests."""
        self._loop.remove(self._sock.fileno())

    def _accept(self, _: int) -> None:
        if len(self.guests) >= MAX_GUESTS:
            self._wait(f"{MAX_GUESTS} guests are connected")
            return
        try:
            connection, _address = self._sock.accept()
        except OSError as error:
            if error.errno in FULL:
                self._wait(os.strerror(error.errno))
            return  # otherwise the guest left before we accepted it
        self.count += 1
        self.guests.append(
            Guest(
                self._export, self._loop, connection, self.count, tls=self._tls, warn=self._warn
            )
        )  # fmt: skip

    def _wait(self, why: str) -> None:
        """Stop accepting until a guest leaves: otherwise the loop would spin."""
        self._waits = True
        self._loop.change(self._sock.fileno(), 0)
        if not self._said:
            self._said = True
            self._say(f"blkbox: {why}: further guests wait until one leaves")
