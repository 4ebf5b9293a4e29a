"""The client's side of one NBD connection, as a state machine without a socket.

client = Client(export_name, tls=False)
n = receive_into(client.target())
replies = client.received(n)                # none until client.export is set
cookie = client.request(kind, flags, offset, length, data)   # adds to client.outgoing
"""

import errno
from collections.abc import Generator
from dataclasses import dataclass, field

from tracer.errors import NbdError, TlsError
from tracer.nbd import protocol as p
from tracer.nbd.inbox import Inbox
from tracer.nbd.options import parse_listed, reason
from tracer.op import Buffer, Extents, Kind

OURS = p.Handshake.FIXED_NEWSTYLE | p.Handshake.NO_ZEROES
"""The handshake flags that this client supports."""

MAX_CHUNK_SLACK = 64 * 1024
"""The most bytes that a structured chunk may have besides data. An error's message has at most
4,096, and the server may add more after it."""

MAX_EXTENTS = p.U32.size + (1 << 20) * p.EXTENT.size
"""The longest block status chunk, in bytes. nbdkit sends up to 1,048,576 extents
(server/extents.c), qemu up to 131,072 (nbd/server.c)."""

MAX_NAMED = 10
"""The most exports of a server that an error names."""


@dataclass(slots=True)
class Reply:
    """A complete reply: an errno (0 for success), a read's bytes, or a block status's extents."""

    cookie: int
    error: int = 0
    data: bytes | bytearray | None = None
    extents: Extents = field(default_factory=list)


@dataclass(slots=True)
class _Pending:
    """A request without a complete reply: what it asked for, and what has arrived so far."""

    kind: int
    offset: int
    length: int
    error: int = 0
    data: bytes | bytearray | None = None
    covered: int = 0
    extents: Extents = field(default_factory=list)


class Client:
    """The state of one connection. ``outgoing`` has the bytes to send; the owner empties it.

    With ``tls``, it asks for TLS first and takes no server without. It must then be inside a
    ``nbd.tls.Secured``.
    """

    def __init__(self, export_name: str = "", *, tls: bool = False) -> None:
        self.outgoing: list[Buffer] = []
        self.cleartext: list[Buffer] | None = None
        """What is still to be sent before TLS begins; None while it has not begun."""
        self.export: p.Export | None = None
        """What the server offers; None until negotiation ends."""
        self.structured = False
        self.meta_context = False
        self._name = export_name.encode()
        self._tls = tls
        self._inbox = Inbox()
        self._pending: dict[int, _Pending] = {}
        self._cookie = 0
        self._reading: tuple[int, int] | None = None
        self._chunk: tuple[int, int, int, int] | None = None
        self._handshake = self._negotiate()
        self._want = next(self._handshake)

    # ---------------------------------------------------------------- sending

    def request(
        self, kind: int, flags: int, offset: int, length: int, data: Buffer | None = None
    ) -> int:
        """Queue a request and return its cookie, which the reply will have too."""
        cookie = self._cookie
        self._cookie = cookie + 1
        self._pending[cookie] = _Pending(kind, offset, length)
        self.outgoing.append(p.REQUEST.pack(p.REQUEST_MAGIC, flags, kind, cookie, offset, length))
        if data is not None:
            self.outgoing.append(data)
        return cookie

    def disconnect(self) -> None:
        """Queue the request that ends the connection. It has no reply."""
        self.outgoing.append(p.REQUEST.pack(p.REQUEST_MAGIC, 0, p.DISC, 0, 0, 0))

    # ---------------------------------------------------------------- receiving

    def target(self) -> memoryview:
        """Return the memory for the next received bytes."""
        return self._inbox.target()

    def received(self, count: int) -> list[Reply]:
        """Parse ``count`` bytes that were received into ``target()``; return the complete replies.

        Raises NbdError if the server breaks the protocol or refuses the client.
        """
        self._inbox.received(count)
        while self.export is None:
            if self._inbox.available < self._want:
                return []
            try:
                self._want = self._handshake.send(self._inbox.take(self._want))
            except StopIteration:
                break
        return self._replies()

    def _replies(self) -> list[Reply]:
        inbox = self._inbox
        found: list[Reply] = []
        while True:
            if self._chunk is not None:
                if not self._take_chunk(self._chunk, found):
                    break
                self._chunk = None
                continue
            if self._reading is not None:
                cookie, length = self._reading
                data = inbox.payload(length)
                if data is None:
                    break
                self._reading = None
                del self._pending[cookie]
                found.append(Reply(cookie, 0, data))
                continue
            if inbox.end - inbox.start < p.SIMPLE_REPLY.size:
                break
            magic, error, cookie = p.SIMPLE_REPLY.unpack_from(inbox.buffer, inbox.start)
            if magic == p.SIMPLE_REPLY_MAGIC:
                inbox.start += p.SIMPLE_REPLY.size
                pending = self._find(cookie)
                if pending.kind in (Kind.READ, Kind.BLOCK_STATUS):
                    if self.structured:
                        raise NbdError("server sent a simple reply, not a structured one")
                    if not error:
                        self._reading = cookie, pending.length
                        continue
                del self._pending[cookie]
                found.append(Reply(cookie, _errno(error)))
            elif magic == p.STRUCTURED_REPLY_MAGIC and self.structured:
                if inbox.end - inbox.start < p.CHUNK.size:
                    break
                _, flags, kind, cookie, length = p.CHUNK.unpack_from(inbox.buffer, inbox.start)
                inbox.start += p.CHUNK.size
                pending = self._find(cookie)
                if length > MAX_CHUNK_SLACK + _room(pending, kind):
                    raise NbdError(
                        f"server sent a chunk of {length} bytes, more than was asked for"
                    )
                self._chunk = flags, kind, cookie, length
            else:
                raise NbdError(f"server sent 0x{magic:08x} where a reply should start")
        return found

    def _find(self, cookie: int) -> _Pending:
        pending = self._pending.get(cookie)
        if pending is None:
            raise NbdError(f"server replied to a request that was not sent (cookie {cookie})")
        return pending

    def _take_chunk(self, chunk: tuple[int, int, int, int], found: list[Reply]) -> bool:
        """Take a chunk's payload. Return False while it is incomplete."""
        flags, kind, cookie, length = chunk
        inbox, pending = self._inbox, self._pending[cookie]
        if kind == p.ReplyType.OFFSET_DATA:
            # in two steps, the offset and then the bytes, so that the bytes are received in place
            if self._reading is None:
                if inbox.available < p.U64.size:
                    return False
                (offset,) = p.U64.unpack(inbox.take(p.U64.size))
                _expect(length > p.U64.size, "a data chunk without data")
                self._reading = offset, length - p.U64.size
            offset, size = self._reading
            data = inbox.payload(size)
            if data is None:
                return False
            self._reading = None
            self._fill(pending, offset, size, data)
        else:
            body = inbox.payload(length)
            if body is None:
                return False
            self._take_small_chunk(pending, kind, body)
        if flags & p.REPLY_DONE:
            del self._pending[cookie]
            if pending.kind == Kind.READ and not pending.error:
                _expect(
                    pending.covered == pending.length,
                    "a read reply that does not cover the whole read",
                )
            if pending.kind == Kind.BLOCK_STATUS and not pending.error:
                _expect(bool(pending.extents), "a block status reply without an extent")
            found.append(Reply(cookie, pending.error, pending.data, pending.extents))
        return True

    def _take_small_chunk(self, pending: _Pending, kind: int, body: bytes | bytearray) -> None:
        if kind == p.ReplyType.NONE:
            _expect(not body, "a chunk of type NONE with a payload")
        elif kind == p.ReplyType.OFFSET_HOLE:
            _expect(len(body) == p.HOLE.size, "a malformed hole chunk")
            offset, size = p.HOLE.unpack(body)
            self._fill(pending, offset, size, None)
        elif kind == p.ReplyType.BLOCK_STATUS:
            _expect(pending.kind == Kind.BLOCK_STATUS, "block status where none was asked for")
            _expect(len(body) >= 12 and len(body) % 8 == 4, "a malformed block status chunk")
            pending.extents = list(p.EXTENT.iter_unpack(body[4:]))
            _expect(all(length for length, _ in pending.extents), "an empty block status extent")
        elif kind & p.REPLY_ERROR:
            _expect(len(body) >= p.CHUNK_ERROR.size, "a malformed error chunk")
            error, _ = p.CHUNK_ERROR.unpack_from(body)
            pending.error = _errno(error) or errno.EIO
        else:
            raise NbdError(f"server sent an unknown type of chunk ({kind})")

    @staticmethod
    def _fill(pending: _Pending, offset: int, size: int, data: bytes | bytearray | None) -> None:
        """Put a piece of a read in its place. ``data`` is None for zeroes."""
        _expect(pending.kind == Kind.READ, "read data where none was asked for")
        start = offset - pending.offset
        inside = size > 0 and start >= 0 and start + size <= pending.length
        _expect(inside and pending.covered + size <= pending.length, "read data out of bounds")
        pending.covered += size
        if size == pending.length and data is not None:
            pending.data = data
            return
        if not isinstance(pending.data, bytearray):
            pending.data = bytearray(pending.length)
        if data is not None:
            pending.data[start : start + size] = data

    # ---------------------------------------------------------------- negotiating

    def _negotiate(self) -> Generator[int, bytes, None]:
        """Do fixed newstyle negotiation. Yields the number of bytes that it needs next."""
        magic, second, flags = p.HELLO.unpack((yield p.HELLO.size))
        if magic != p.NBDMAGIC or second == p.OLDSTYLE_MAGIC:
            raise NbdError("it does not speak newstyle NBD")
        if second != p.IHAVEOPT or not flags & p.Handshake.FIXED_NEWSTYLE:
            raise NbdError("it does not speak fixed newstyle NBD")
        self.outgoing.append(p.U32.pack(OURS & flags))

        if self._tls:
            yield from self._start_tls()
        replies = yield from self._ask(p.Option.STRUCTURED_REPLY)
        self.structured = replies[-1][0] == p.Rep.ACK
        replies = yield from self._go()
        last = replies[-1][0]
        if last in (p.Rep.ERR_UNKNOWN, p.Rep.ERR_UNSUP) and not self._name:
            # the only export that there is, under its name. A server without GO cannot refuse ''
            # other than by leaving, so it is asked before
            self._name = yield from self._only_name(must=last == p.Rep.ERR_UNKNOWN)
            if self._name:
                replies = yield from self._go()
                last = replies[-1][0]
        if last == p.Rep.ERR_UNSUP:
            self._option(p.Option.EXPORT_NAME, self._name)
            size, export_flags = p.EXPORT.unpack((yield p.EXPORT.size))
            if not flags & p.Handshake.NO_ZEROES:
                yield 124
            self.export = p.Export(size, export_flags, name=self._name.decode())
            return
        if last != p.Rep.ACK:
            raise NbdError(f"it refuses the export {self._name.decode()!r}: {reason(replies)}")
        infos = [body for kind, body in replies if kind == p.Rep.INFO]
        self.export = _parse_export(infos, self._name.decode())

    def _start_tls(self) -> Generator[int, bytes, None]:
        """Ask for TLS. What is queued from then on is for inside of it."""
        replies = yield from self._ask(p.Option.STARTTLS)
        if replies[-1][0] != p.Rep.ACK:
            raise TlsError(f"the server refuses TLS: {reason(replies)}")
        if self._inbox.available:  # it would count as sent inside TLS
            raise TlsError("the server sent data between its consent to TLS and TLS")
        self.cleartext, self.outgoing = self.outgoing, []

    def _go(self) -> Generator[int, bytes, list[tuple[int, bytes]]]:
        """Ask for block status, then for the export. Return the replies to the latter."""
        if self.structured:
            query = self._named(p.U32.pack(1) + _string(p.BASE_ALLOCATION))
            replies = yield from self._ask(p.Option.SET_META_CONTEXT, query)
            self.meta_context = any(kind == p.Rep.META_CONTEXT for kind, _ in replies)
        wanted = (p.Info.BLOCK_SIZE, p.Info.DESCRIPTION)
        types = b"".join(p.U16.pack(kind) for kind in wanted)
        return (yield from self._ask(p.Option.GO, self._named(p.U16.pack(len(wanted)) + types)))

    def _only_name(self, *, must: bool) -> Generator[int, bytes, bytes]:
        """Return the name of the only export that the server lists, or an empty one if it does not
        say. Raises NbdError if it lists several, and ``must`` or none of them is called ''."""
        replies = yield from self._ask(p.Option.LIST)
        names = [parse_listed(body) for kind, body in replies if kind == p.Rep.SERVER]
        if len(names) < 2 or (b"" in names and not must):
            return names[0] if len(names) == 1 else b""
        shown = ", ".join(repr(name.decode()) for name in sorted(names)[:MAX_NAMED])
        more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        raise NbdError(f"it has no export '': name one of {shown}{more}")

    def _named(self, rest: bytes) -> bytes:
        return _string(self._name) + rest

    def _option(self, option: int, data: bytes) -> None:
        self.outgoing.append(p.OPTION.pack(p.IHAVEOPT, option, len(data)) + data)

    def _ask(
        self, option: int, data: bytes = b""
    ) -> Generator[int, bytes, list[tuple[int, bytes]]]:
        """Send an option; return its replies. The last is ACK or an error."""
        self._option(option, data)
        replies: list[tuple[int, bytes]] = []
        while True:
            magic, echoed, kind, length = p.OPTION_REPLY.unpack((yield p.OPTION_REPLY.size))
            if magic != p.OPTION_REPLY_MAGIC or echoed != option:
                raise NbdError("server's reply does not belong to the option that was sent")
            if length > p.MAX_OPTION:
                raise NbdError(f"server sent an option reply of {length} bytes")
            replies.append((kind, (yield length) if length else b""))
            if kind == p.Rep.ACK or kind & p.REP_ERROR:
                return replies


def _parse_export(infos: list[bytes], name: str) -> p.Export:
    size, flags, sizes, description = None, 0, p.BlockSizes(), ""
    for body in infos:
        kind = p.U16.unpack_from(body)[0] if len(body) >= 2 else None
        if kind == p.Info.EXPORT and len(body) == p.INFO_EXPORT.size:
            _, size, flags = p.INFO_EXPORT.unpack(body)
        elif kind == p.Info.BLOCK_SIZE and len(body) == p.INFO_BLOCK_SIZE.size:
            _, minimum, preferred, maximum = p.INFO_BLOCK_SIZE.unpack(body)
            if not 1 <= minimum <= 65536 or minimum & (minimum - 1):
                raise NbdError(f"server asks for a minimum block size of {minimum}")
            sizes = p.BlockSizes(minimum, preferred, max(minimum, min(maximum, p.MAX_PAYLOAD)))
        elif kind == p.Info.DESCRIPTION:
            # cut to what a string may have; a character that is cut in two goes
            description = body[2 : 2 + p.MAX_STRING].decode(errors="ignore")
    if size is None:
        raise NbdError("server did not send the export's size")
    return p.Export(size, flags, sizes, name, description)


def _room(pending: _Pending, kind: int) -> int:
    """Return the most bytes of data that a chunk of this kind may have in reply to a request."""
    if pending.kind == Kind.READ and kind == p.ReplyType.OFFSET_DATA:
        return pending.length
    if pending.kind == Kind.BLOCK_STATUS and kind == p.ReplyType.BLOCK_STATUS:
        return MAX_EXTENTS
    return 0


def _string(text: bytes) -> bytes:
    return p.U32.pack(len(text)) + text


def _errno(wire: int) -> int:
    return p.ERRNO_BY_WIRE.get(wire, errno.EINVAL) if wire else 0


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise NbdError(f"server sent {otherwise}")
