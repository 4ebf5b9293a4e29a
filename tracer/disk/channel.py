"""Moves bytes between a socket and an NBD state machine, for clients and servers.

This is the only module that receives and sends NBD messages.
"""

import select
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from tracer.disk.loop import READ, WRITE, Loop
from tracer.errors import NbdError
from tracer.op import Buffer

Message = TypeVar("Message")

BUFFER = 2 << 20
"""Bytes to request for each of a socket's buffers; the kernel may allow less. The default holds
only three requests of 64 KiB, so that in a burst of larger requests each takes a wake-up."""

MAX_BUFFERS = 1024
"""The most buffers in one sendmsg: Linux's IOV_MAX."""


class Machine(Protocol[Message]):
    """The common interface of ``nbd.client.Client``, ``nbd.server.Server``, ``nbd.tls.Secured``."""

    @property
    def outgoing(self) -> list[Buffer]: ...
    def target(self) -> memoryview: ...
    def received(self, count: int) -> list[Message]: ...


class Channel(Generic[Message]):
    """Moves bytes between a socket and a machine.

    ``on_message`` gets each message. ``on_close`` is called once, if the connection ends without a
    call of ``close``: with None after a clean end of stream, otherwise with the error.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        machine: Machine[Message],
        on_message: Callable[[Message], None],
        on_close: Callable[[Exception | None], None],
    ) -> None:
        self.loop = loop
        self.sock = sock
        self.machine = machine
        self.closed = False
        self._on_message = on_message
        self._on_close = on_close
        self._events = READ
        self._paused = False
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop.add(sock.fileno(), self._ready)

    @property
    def unsent(self) -> bool:
        """Whether the machine has bytes that are not sent yet."""
        return bool(self.machine.outgoing)

    def pause(self, paused: bool) -> None:
        """Stop or resume receiving. While it is stopped, the peer waits."""
        if paused != self._paused:
            self._paused = paused
            self._watch()

    def send(self) -> None:
        """Send the machine's outgoing bytes.

        What the socket does not take now is sent when the socket is ready again.
        """
        if self.closed:
            return
        try:
            while outgoing := self.machine.outgoing:  # TLS encrypts more once this is sent
                buffers = outgoing if len(outgoing) <= MAX_BUFFERS else outgoing[:MAX_BUFFERS]
                _drop(outgoing, self.sock.sendmsg(buffers))
        except BlockingIOError:
            pass
        except OSError as error:
            self._end(error)
            return
        self._watch()

    def close(self) -> None:
        """Close the socket, without a call of ``on_close``."""
        if not self.closed:
            self.closed = True
            self._on_close = _nothing  # its owner, which has us too, is then freed at once
            self.loop.remove(self.sock.fileno())
            self.sock.close()

    def _watch(self) -> None:
        events = (0 if self._paused else READ) | (WRITE if self.machine.outgoing else 0)
        if events != self._events and not self.closed:
            self._events = events
            self.loop.change(self.sock.fileno(), events)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self.send()
        if events & ~WRITE and not self.closed and not self._paused:
            self._receive()
        elif events & (select.EPOLLHUP | select.EPOLLERR) and not self.closed:
            self._end(None)  # the peer left while receiving is paused

    def _receive(self) -> None:
        try:
            count = self.sock.recv_into(self.machine.target())
            if count:
                for message in self.machine.received(count):
                    self._on_message(message)
                if self.machine.outgoing:
                    self.send()
                return
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        except NbdError as error:
            self._say_why()
            self._end(error)
            return
        self._end(None)

    def _say_why(self) -> None:
        """Send what waits, if the socket takes it: a TLS alert tells the peer what is wrong."""
        with suppress(OSError):
            self.sock.sendmsg(self.machine.outgoing[:MAX_BUFFERS])

    def _end(self, error: Exception | None) -> None:
        if not self.closed:
            on_close = self._on_close
            self.close()
            on_close(error)


def _nothing(_: Exception | None) -> None:
    pass


def _drop(buffers: list[Buffer], count: int) -> None:
    """Remove ``count`` bytes from the front of a list of buffers."""
    for index, buffer in enumerate(buffers):
        size = len(buffer)
        if count < size:
            del buffers[:index]
            if count:
                buffers[0] = memoryview(buffer)[count:]
            return
        count -= size
    buffers.clear()
