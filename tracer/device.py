"""A disk that takes requests: a file that we serve ourselves, or an NBD server's export.

``submit`` queues a request and ``kick`` sends what is queued, so that a burst is one system call.
``done(error, data, extents)`` is called once for each request, perhaps before ``submit`` returns:
an errno value (0 for success), the bytes of a read, the extents of a block status.
"""

import errno
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tracer import sparse
from tracer.channel import Channel
from tracer.closing import Closing
from tracer.errors import NbdError, StorageError, Unreachable
from tracer.loop import Loop
from tracer.lower import Part, lower
from tracer.nbd import protocol as p
from tracer.nbd.client import Client, Reply
from tracer.nbd.uri import Address
from tracer.op import Buffer, Extents, Flag, Kind

Data = bytes | bytearray
Done = Callable[[int, Data | None, Extents], None]

CONNECTION_LOST = errno.ENOTCONN
"""The errno of requests that were in flight when the driver went away. No server can send it."""

EVERYTHING = (
    p.TransmissionFlag.HAS_FLAGS
    | p.TransmissionFlag.SEND_FLUSH
    | p.TransmissionFlag.SEND_FUA
    | p.TransmissionFlag.SEND_TRIM
    | p.TransmissionFlag.SEND_WRITE_ZEROES
    | p.TransmissionFlag.SEND_CACHE
    | p.TransmissionFlag.SEND_FAST_ZERO
    | p.TransmissionFlag.CAN_MULTI_CONN
)
"""What a file can do."""


class Device(Protocol):
    """A disk that takes requests."""

    export: p.Export
    lost: Exception | None

    def submit(
        self, kind: int, flags: int, offset: int, length: int, data: Buffer | None, done: Done
    ) -> None: ...
    def kick(self) -> None: ...
    def close(self) -> None: ...


class FileDevice(Closing):
    """A raw image file, served in process. Every request is done when ``submit`` returns.

    With ``durable=False`` flushes and FUA are not passed on to the disk: right for a reference image,
    which only this process reads and which is worth nothing once the machine has lost power.
    """

    def __init__(self, path: Path, *, durable: bool = True, read_only: bool = False) -> None:
        self.path = path
        self.lost: Exception | None = None
        self._durable = durable
        self.fd = -1
        try:
            self.fd = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
            size = os.lseek(self.fd, 0, os.SEEK_END)
        except OSError as error:
            self.close()
            raise StorageError(f"cannot open {path}: {error.strerror}") from error
        self.export = p.Export(size, EVERYTHING)

    def submit(
        self, kind: int, flags: int, offset: int, length: int, data: Buffer | None, done: Done
    ) -> None:
        done(*self.execute(kind, flags, offset, length, data))

    def execute(
        self, kind: int, flags: int, offset: int, length: int, data: Buffer | None
    ) -> tuple[int, Data | None, Extents]:
        """Do a request now; return what ``done`` would get."""
        try:
            if kind == Kind.READ:
                return 0, self.read(offset, length), []
            if kind == Kind.BLOCK_STATUS:
                return 0, None, self._status(offset, length)
            self._change(kind, flags, offset, length, data)
        except OSError as error:
            return error.errno or errno.EIO, None, []
        return 0, None, []

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of a range. Raises OSError."""
        data = os.pread(self.fd, length, offset)
        while len(data) < length:  # a read may be cut short at 2 GiB, or by a signal
            more = os.pread(self.fd, length - len(data), offset + len(data))
            if not more:
                raise OSError(errno.EIO, "unexpected end of file")
            data += more
        return data

    def _change(self, kind: int, flags: int, offset: int, length: int, data: Buffer | None) -> None:
        if kind in (Kind.WRITE, Kind.START):
            assert data is not None
            written = os.pwrite(self.fd, data, offset)
            while written < length:
                written += os.pwrite(self.fd, memoryview(data)[written:], offset + written)
        elif kind == Kind.ZERO and flags & Flag.NO_HOLE:
            sparse.zero(self.fd, offset, length)
        elif kind in (Kind.ZERO, Kind.TRIM):
            sparse.punch(self.fd, offset, length)
        if self._durable and (kind == Kind.FLUSH or flags & Flag.FUA):
            os.fdatasync(self.fd)

    def _status(self, offset: int, length: int) -> Extents:
        hole = int(p.State.HOLE | p.State.ZERO)
        pieces = sparse.extents(self.fd, offset, offset + length)
        return [(end - start, 0 if is_data else hole) for start, end, is_data in pieces]

    def kick(self) -> None:
        """Nothing is ever queued."""

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class NbdDevice(Closing):
    """An NBD server's export, over one connection.

    ``lost`` is None while the connection holds; when it breaks, what was in flight is done with
    CONNECTION_LOST, and so is everything after.
    """

    def __init__(self, loop: Loop, sock: socket.socket, export_name: str = "") -> None:
        self.lost: Exception | None = None
        self.export = p.Export(0, 0)
        self.client = Client(export_name)
        self.channel: Channel[Reply] = Channel(
            loop, sock, self.client, self._replied, self._disconnected
        )
        self._waiting: dict[int, Done] = {}
        self._df = 0
        self._read_only = False

    @classmethod
    def connect(cls, loop: Loop, address: Address, timeout: float = 10.0) -> "NbdDevice":
        """Connect and negotiate, within ``timeout`` seconds. Raises NbdError."""
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
            raise Unreachable(f"cannot connect to {address.uri()}: {error.strerror or error}") from error
        device = cls(loop, sock, address.export)
        deadline = time.monotonic() + timeout
        try:
            while device.client.export is None and device.lost is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise NbdError(f"{address.uri()} did not finish negotiating in {timeout:g} s")
                loop.poll(left)
        except BaseException:
            device.channel.close()
            raise
        if device.client.export is None:
            raise NbdError(f"{address.uri()}: {device.lost}")
        device.export = device.client.export
        if device.client.structured and device.export.flags & p.TransmissionFlag.SEND_DF:
            device._df = int(Flag.DF)
        device._read_only = bool(device.export.flags & p.TransmissionFlag.READ_ONLY)
        return device

    @property
    def has_block_status(self) -> bool:
        """Whether block status can be asked for."""
        return self.client.meta_context

    def submit(
        self, kind: int, flags: int, offset: int, length: int, data: Buffer | None, done: Done
    ) -> None:
        if self.lost is not None:
            done(CONNECTION_LOST, None, [])
            return
        if kind == Kind.READ:
            # DF: without it, qemu-nbd leaves out what its block status calls a hole, and a driver
            # that wrongly calls data a hole could not be told from one that lost it
            flags = self._df
        elif kind == Kind.BLOCK_STATUS and not self.client.meta_context:
            done(0, None, [(length, 0)])  # as the protocol says: all of it is to be taken as data
            return
        if kind <= Kind.WRITE and not flags & ~self._df and self._direct(length):
            # nearly all requests: say them as they are
            self._waiting[self.client.request(kind, flags, offset, length, data)] = done
            return
        self._submit_parts(lower(self.export, kind, flags, offset, length, data), done)

    def _direct(self, length: int) -> bool:
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
        """Say goodbye and close; a second time does nothing."""
        if self.lost is None:
            self.client.disconnect()
            self.channel.send()
            self.lost = NbdError("we disconnected")
        self.channel.close()

    def close(self) -> None:
        self.disconnect()

    def _replied(self, reply: Reply) -> None:
        self._waiting.pop(reply.cookie)(reply.error, reply.data, reply.extents)

    def _disconnected(self, error: Exception | None) -> None:
        self.lost = error or EOFError("the server closed the connection")
        waiting, self._waiting = self._waiting, {}
        for done in waiting.values():
            done(CONNECTION_LOST, None, [])


class _Series:
    """The parts of one request, one after the other; it fails as soon as one of them does."""

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
