"""A guest's NBD connection: its requests that wait for the mirror, and its replies that wait to be
sent."""

import socket
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from tracer.disk.channel import Channel, Machine
from tracer.disk.loop import Loop
from tracer.errors import TlsError
from tracer.nbd.protocol import Export
from tracer.nbd.server import Request, Server

if TYPE_CHECKING:  # it takes time to load, and few recordings need it
    from ssl import SSLContext

MAX_WARNINGS = 10
"""The most guests whose failure to connect is shown: whoever tries for ever fills no log."""


def at_most(count: int, say: Callable[[str], None]) -> Callable[[str], None]:
    """Return ``say`` for the first ``count`` texts, and a last word instead of more."""
    said = 0

    def limited(text: str) -> None:
        nonlocal said
        said += 1
        if said <= count:
            say(text)
        elif said == count + 1:
            say("blkbox: further guests that cannot connect are not shown")

    return limited


MAX_UNSENT = 64 << 20
"""Bytes of replies that a guest may leave unfetched: two of the largest reads. Beyond that its
requests wait, whatever they ask for."""

MAX_REPLIES = 4096
"""Replies that a guest may leave unfetched: far more than its requests in flight. Small ones, like
refusals, take more memory than their bytes."""


class Guest:
    """A guest, as its connection shows it. ``warn`` shows the user why a guest's TLS failed."""

    def __init__(
        self,
        export: Export,
        loop: Loop,
        sock: socket.socket,
        number: int,
        *,
        tls: "SSLContext | None" = None,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.number = number
        self.server = Server(export, tls=tls is not None)
        self._warn = warn
        self._machine = _machine(self.server, tls)
        self.backlog: deque[Request] = deque()
        """Requests that came in and are not in the mirror yet."""
        self.since = time.monotonic()
        """When the guest connected, in seconds."""
        self.in_flight = 0
        """Requests in the mirror."""
        self.gone = False
        """Whether the connection is closed or broken."""
        self.channel: Channel[Request] = Channel(
            loop, sock, self._machine, self.backlog.append, self._closed
        )
        self.channel.send()  # the server speaks first

    def _closed(self, error: Exception | None) -> None:
        # an error concerns this connection alone: other guests go on
        if isinstance(error, TlsError):
            self._warn(f"blkbox: guest {self.number}: {error}")
        elif getattr(self._machine, "shaking", False):
            self._warn(
                f"blkbox: guest {self.number} left before TLS began: does it trust our certificate?"
            )
        self.gone = True
        self.backlog.clear()

    @property
    def is_behind(self) -> bool:
        """Whether the guest has to fetch replies before it may send more."""
        outgoing = self.server.outgoing
        return len(outgoing) > MAX_REPLIES or (
            bool(outgoing) and sum(map(len, outgoing)) >= MAX_UNSENT
        )


def _machine(server: Server, tls: "SSLContext | None") -> Machine[Request]:
    """Return what the channel moves bytes to: the server, inside of TLS if there is a context."""
    if tls is None:
        return server
    from tracer.nbd.tls import Secured

    return Secured(server, tls, server_side=True)
