"""A device behind an NBD server: connect to its export, submit requests, and match the replies.

Requests that the export does not take as they are go through ``nbd.commands.lower``.
"""

import socket
import time

from tracer.closing import Closing
from tracer.disk.channel import Channel, Machine
from tracer.disk.device import CONNECTION_LOST, Data, Done
from tracer.disk.loop import Loop
from tracer.errors import NbdError, Unreachable
from tracer.nbd import protocol as p
from tracer.nbd.client import Client, Reply
from tracer.nbd.commands import Part, lower
from tracer.nbd.uri import Address
from tracer.op import Buffer, Extents, Flag, Kind


class NbdDevice(Closing):
    """An NBD server's export, over one connection.

    When the connection is lost, ``lost`` says why, and all requests, in flight or later, are done
    with CONNECTION_LOST.
    """

    def __init__(self, loop: Loop, sock: socket.socket, address: Address) -> None:
        self.lost: Exception | None = None
        self.export = p.Export(0, 0)
        self.client = Client(address.export, tls=address.tls is not None)
        self.channel: Channel[Reply] = Channel(
            loop, sock, _machine(self.client, address), self._replied, self._disconnected
        )
        self._waiting: dict[int, Done] = {}
        self._df = 0
        self._read_only = False

    @classmethod
    def connect(cls, loop: Loop, address: Address, timeout: float = 10.0) -> "NbdDevice":
        """Connect, then negotiate within ``timeout`` seconds.

        Raises Unreachable if nothing listens, NbdError if negotiation fails, UsageError if the
        files that the address names for TLS cannot be used.
        """
        sock: socket.socket | None = None
        try:
            if address.path:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                sock.settimeout(timeout)
                sock.connect(address.path)
            else:
                sock = socket.create_connection((address.host, address.port), timeout)
        except OSError as error:
            if sock is not None:
                sock.close()
            raise Unreachable(
                f"cannot connect to {address.uri()}: {error.strerror or error}"
            ) from error
        try:
            device = cls(loop, sock, address)
        except BaseException:
            sock.close()
            raise
        deadline = time.monotonic() + timeout
        try:
            while device.client.export is None and device.lost is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise NbdError(
                        f"{address.uri()}: it did not finish negotiating within {timeout:g} s"
                    )
                loop.poll(left)
        except BaseException:
            device.channel.close()
            raise
        if device.client.export is None:
            raise NbdError(f"{address.uri()}: {_why(device.lost, address)}")
        device.export = device.client.export
        # only who tells holes needs it ("submit"); some others offer it and fail such reads
        if device.client.meta_context and device.export.flags & p.TransmissionFlag.SEND_DF:
            device._df = int(Flag.DF)
        device._read_only = bool(device.export.flags & p.TransmissionFlag.READ_ONLY)
        return device

    @property
    def progress(self) -> int:
        """What the client says of its answers."""
        return self.client.progress

    @property
    def has_block_status(self) -> bool:
        """Whether the server offers block status."""
        return self.client.meta_context

    def submit(
        self, kind: int, flags: int, offset: int, length: int, data: Buffer | None, done: Done
    ) -> None:
        if self.lost is not None:
            done(CONNECTION_LOST, None, [])
            return
        if kind == Kind.READ:
            # without DF, qemu-nbd leaves out what its block status calls a hole, so that a false
            # hole would look like lost data
            flags = self._df
        elif kind == Kind.BLOCK_STATUS and not self.client.meta_context:
            # the protocol says to treat all as data
            done(0, None, [(length, 0)])
            return
        if kind <= Kind.WRITE and not flags & ~self._df and self._direct(length):
            # nearly all requests need no translation
            self._waiting[self.client.request(kind, flags, offset, length, data)] = done
            return
        self._submit_parts(lower(self.export, kind, flags, offset, length, data), done)

    def _direct(self, length: int) -> bool:
        """Whether a read or write of this length needs no translation."""
        sizes = self.export.sizes
        return sizes.minimum == 1 and length <= sizes.maximum and not self._read_only

    def _submit_parts(self, parts: list[Part], done: Done) -> None:
        if not parts:
            done(0, None, [])
        elif len(parts) == 1:
            kind, flags, offset, size, data = parts[0]
            self._waiting[self.client.request(kind, flags, offset, size, data)] = done
        else:
            _Series(self, parts, done).next()

    def kick(self) -> None:
        self.channel.send()

    def disconnect(self) -> None:
        """Send the disconnect request and close the connection. A second call does nothing."""
        if self.lost is None:
            self.client.disconnect()
            self.channel.send()
            self.lost = NbdError("we disconnected")
        self.channel.close()

    def close(self) -> None:
        self.disconnect()

    def _replied(self, reply: Reply) -> None:
        done = self._waiting.pop(reply.cookie, None)
        # None: an earlier reply of the burst made us send, and that showed that the connection is
        # lost, which has given up all requests. The client has checked that the cookie is ours
        if done is not None:
            done(reply.error, reply.data, reply.extents)

    def _disconnected(self, error: Exception | None) -> None:
        self.lost = error or EOFError("the server closed the connection")
        waiting, self._waiting = self._waiting, {}
        for done in waiting.values():
            done(CONNECTION_LOST, None, [])


def _why(lost: Exception | None, address: Address) -> str:
    """Return why a connection ended before negotiation did."""
    text = getattr(lost, "strerror", None) or str(lost)
    if isinstance(lost, NbdError) or address.tls is None:
        return text
    if address.tls.psk_file:
        return f"{text}: has it the same key?"
    # in TLS 1.3, a server judges the client's certificate when the client is through already
    return f"{text}: does it want a certificate (client-cert.pem and client-key.pem)?"


def _machine(client: Client, address: Address) -> Machine[Reply]:
    """Return what the channel moves bytes to: the client, inside of TLS if the address says so."""
    if address.tls is None:
        return client
    from tracer.disk.credentials import secured  # ssl takes time to load

    return secured(client, address)


class _Series:
    """The parts of one request, sent one after the other. If a part fails, the request fails."""

    def __init__(self, device: NbdDevice, parts: list[Part], done: Done) -> None:
        self._device = device
        self._parts = iter(parts)
        self._reads = parts[0][0] == Kind.READ
        self._data = bytearray()
        self._done = done

    def next(self) -> None:
        part = next(self._parts, None)
        if part is None:
            self._done(0, self._data if self._reads else None, [])
            return
        kind, flags, offset, size, data = part
        self._device.submit(kind, flags, offset, size, data, self._part_done)
        self._device.kick()

    def _part_done(self, error: int, data: Data | None, extents: Extents) -> None:
        if error:
            self._done(error, None, [])
            return
        if data is not None:
            self._data += data
        self.next()
