"""The client's side of one NBD connection, as a state machine without a socket.

client = Client(export_name, tls=False)
n = receive_into(client.target())
replies = client.received(n)                # none until client.export is set
cookie = client.request(kind, flags, offset, length, data)   # adds to client.outgoing
"""

from collections.abc import Generator
from dataclasses import dataclass, field

from tracer.errors import NbdError, TlsError
from tracer.nbd import protocol as p
from tracer.nbd.answer import Answer, errno_of, expect
from tracer.nbd.inbox import Inbox
from tracer.nbd.offer import export_of
from tracer.nbd.options import parse_listed, reason
from tracer.op import Buffer, Extents, Kind

OURS = p.Handshake.FIXED_NEWSTYLE | p.Handshake.NO_ZEROES
"""The handshake flags that this client supports."""

MAX_REPLIES = 10_000
"""The most replies to an option: as many exports as nbdkit can list (server/exports.c)."""

MAX_REPLY_BYTES = 4 << 20
"""The most bytes in the replies to an option: 10,000 names with descriptions of usual lengths."""

STEP = 64 * 1024
"""Bytes of an answer that count as progress. A server that dribbles makes none."""

MAX_NAMED = 10
"""The most exports of a server that an error names."""


@dataclass(slots=True)
class Reply:
    """A complete reply: an errno (0 for success), a read's bytes, or a block status's extents."""

    cookie: int
    error: int = 0
    data: bytes | bytearray | None = None
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
        self.note = ""
        """What of the server's offer was adjusted: a line, or nothing."""
        self.structured = False
        self.meta_context = False
        self._name = export_name.encode()
        self._tls = tls
        self._inbox = Inbox()
        self._pending: dict[int, Answer] = {}
        self._cookie = 0
        self._new = 0  # bytes of answers so far
        self._replied = 0
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
        self._pending[cookie] = Answer(kind, offset, length)
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

    @property
    def progress(self) -> int:
        """A number that grows with each reply, and with each STEP bytes of an answer. Chunks that
        bring nothing do not count."""
        partial = self._inbox.partial if self._reading is not None else 0
        return self._replied + (self._new + partial) // STEP

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
                self._new += length
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
                found.append(Reply(cookie, errno_of(error)))
            elif magic == p.STRUCTURED_REPLY_MAGIC and self.structured:
                if inbox.end - inbox.start < p.CHUNK.size:
                    break
                _, flags, kind, cookie, length = p.CHUNK.unpack_from(inbox.buffer, inbox.start)
                inbox.start += p.CHUNK.size
                pending = self._find(cookie)
                if length > pending.room(kind):
                    raise NbdError(
                        f"server sent a chunk of {length} bytes, more than was asked for"
                    )
                self._chunk = flags, kind, cookie, length
            else:
                raise NbdError(f"server sent 0x{magic:08x} where a reply should start")
        self._replied += len(found)
        return found

    def _find(self, cookie: int) -> Answer:
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
                expect(length > p.U64.size, "a data chunk without data")
                self._reading = offset, length - p.U64.size
            offset, size = self._reading
            data = inbox.payload(size)
            if data is None:
                return False
            self._reading = None
            self._new += pending.fill(offset, size, data)
        else:
            body = inbox.payload(length)
            if body is None:
                return False
            self._new += pending.take(kind, body)
        if flags & p.REPLY_DONE:
            del self._pending[cookie]
            pending.complete()
            found.append(Reply(cookie, pending.error, pending.data, pending.extents))
        return True

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
        self.export, self.note = export_of(infos, self._name.decode())

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
        left = MAX_REPLY_BYTES
        while True:
            magic, echoed, kind, length = p.OPTION_REPLY.unpack((yield p.OPTION_REPLY.size))
            if magic != p.OPTION_REPLY_MAGIC or echoed != option:
                raise NbdError("server's reply does not belong to the option that was sent")
            if length > p.MAX_OPTION:
                raise NbdError(f"server sent an option reply of {length} bytes")
            left -= length
            if left < 0 or len(replies) >= MAX_REPLIES:
                raise NbdError(
                    f"server sent more than {MAX_REPLIES} replies or {MAX_REPLY_BYTES >> 20} MiB "
                    f"in answer to {p.Option(option).name}"
                )
            replies.append((kind, (yield length) if length else b""))
            if kind == p.Rep.ACK or kind & p.REP_ERROR:
                return replies


def _string(text: bytes) -> bytes:
    return p.U32.pack(len(text)) + text
