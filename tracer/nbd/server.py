"""The server's side of one NBD connection, as a state machine without a socket.

    server = Server(export)
    send(server.outgoing)                       # it speaks first
    n = receive_into(server.target())
    for request in server.received(n): ...      # requests to carry out
    server.reply(request, ...)                  # adds to server.outgoing

A request that breaks the protocol's rules is refused here, after all of its bytes were read, and is
never seen by the caller. A message that cannot be understood at all raises NbdError: the stream is
lost, and the connection is to be closed.
"""

import errno
from collections.abc import Generator
from dataclasses import dataclass

from tracer.errors import NbdError
from tracer.nbd import protocol as p
from tracer.nbd.inbox import Inbox
from tracer.op import MUTATING, Buffer, Extents, Flag, Kind

META_CONTEXT = 1
"""The id that base:allocation gets; any number would do."""

# ints: the operators of IntFlag are slow, and this is the data path
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO = map(
    int, (Flag.FUA, Flag.NO_HOLE, Flag.DF, Flag.REQ_ONE, Flag.FAST_ZERO)
)

COMMAND_FLAGS: dict[int, int] = {
    Kind.READ: FUA | DF,
    Kind.WRITE: FUA,
    Kind.FLUSH: FUA,
    Kind.TRIM: FUA,
    Kind.CACHE: FUA,
    Kind.ZERO: FUA | NO_HOLE | FAST_ZERO,
    Kind.BLOCK_STATUS: FUA | REQ_ONE,
}
"""Flags that a command may carry. FUA may come with any ("Command flags": servers should accept it
where it has no meaning) once it was offered; DF only with structured replies."""


@dataclass(slots=True)
class Request:
    """A request that is to be carried out; ``data`` is what a write brings."""

    cookie: int
    kind: int
    flags: int
    offset: int
    length: int
    data: bytes | bytearray | None = None


class Server:
    """One connection's state. ``outgoing`` collects what is to be sent; the owner empties it."""

    def __init__(self, export: p.Export) -> None:
        self.export = export
        self.outgoing: list[Buffer] = []
        self.negotiated = False
        self.finished = False
        """The client said goodbye, or was refused: send what is outgoing, then close."""
        self.structured = False
        self.meta_context = False
        self.refused = 0
        """Requests that were answered with an error because they break the protocol's rules."""
        self._inbox = Inbox()
        self._skip = 0
        self._head: Request | None = None
        self._refusal = 0
        self._allowed: dict[int, int] = {}
        self._read_only = bool(export.flags & p.TransmissionFlag.READ_ONLY)
        self._handshake = self._negotiate()
        self._want = next(self._handshake)

    # ---------------------------------------------------------------- receiving

    def target(self) -> memoryview:
        """Where the next bytes are to be received."""
        return self._inbox.target()

    def received(self, count: int) -> list[Request]:
        """Take in ``count`` bytes that were put into ``target()``; return the requests that are now
        whole. Raises NbdError where the client does not speak NBD."""
        self._inbox.received(count)
        while not self.negotiated and not self.finished:
            if self._inbox.available < self._want:
                return []
            try:
                self._want = self._handshake.send(self._inbox.take(self._want))
            except StopIteration:
                self._allowed = self._valid()
                break
        return self._requests() if self.negotiated and not self.finished else []

    def _requests(self) -> list[Request]:
        inbox, found = self._inbox, []
        while not self.finished:
            if self._skip:
                step = min(self._skip, inbox.available)
                inbox.start += step
                self._skip -= step
                if self._skip:
                    break
            if (head := self._head) is not None:
                if self._refusal:
                    self._refuse(head, self._refusal)
                else:
                    data = inbox.payload(head.length)
                    if data is None:
                        break
                    head.data = data
                    found.append(head)
                self._head = None
                continue
            if inbox.end - inbox.start < p.REQUEST.size:
                break
            magic, flags, kind, cookie, offset, length = p.REQUEST.unpack_from(
                inbox.buffer, inbox.start
            )
            if magic != p.REQUEST_MAGIC:
                raise NbdError(f"client sent 0x{magic:08x} where a request should start")
            inbox.start += p.REQUEST.size
            if kind == p.DISC:
                self.finished = True
                break
            request = Request(cookie, kind, flags, offset, length)
            refusal = self._check(request)
            if kind == Kind.WRITE:
                self._head, self._refusal = request, refusal
                if refusal:
                    self._skip = length
            elif refusal:
                self._refuse(request, refusal)
            else:
                found.append(request)
        return found

    def _check(self, request: Request) -> int:
        """The errno with which a request is to be refused, or 0."""
        kind, flags, offset, length = request.kind, request.flags, request.offset, request.length
        export, sizes = self.export, self.export.sizes
        allowed = self._allowed.get(kind)
        if allowed is None or flags & ~allowed:
            return errno.EINVAL
        changes = kind in MUTATING
        if changes and self._read_only:
            return errno.EPERM
        if kind == Kind.FLUSH:
            return errno.EINVAL if offset or length else 0
        if offset + length > export.size:
            # "Request types": ENOSPC for a write beyond the end, EINVAL for a read
            return errno.ENOSPC if changes else errno.EINVAL
        if length == 0 or offset % sizes.minimum or length % sizes.minimum:
            return errno.EINVAL
        if kind <= Kind.WRITE and length > sizes.maximum:
            return errno.EINVAL
        return 0

    def _valid(self) -> dict[int, int]:
        """The commands that may come now that negotiation is over, and the flags each may carry."""
        offered, allowed = self.export.flags, dict(COMMAND_FLAGS)
        for kind, needed in p.NEEDED_FLAG.items():
            if not offered & needed:
                del allowed[kind]
        if not self.meta_context:
            del allowed[Kind.BLOCK_STATUS]
        never = 0 if offered & p.TransmissionFlag.SEND_FUA else FUA
        never |= 0 if self.structured else DF
        never |= 0 if offered & p.TransmissionFlag.SEND_FAST_ZERO else FAST_ZERO
        return {int(kind): flags & ~never for kind, flags in allowed.items()}

    def _refuse(self, request: Request, error: int) -> None:
        self.refused += 1
        self.reply_error(request, error)

    # ---------------------------------------------------------------- replying

    def reply(self, request: Request) -> None:
        """Success, for a request that returns no data."""
        self.outgoing.append(p.SIMPLE_REPLY.pack(p.SIMPLE_REPLY_MAGIC, 0, request.cookie))

    def reply_read(self, request: Request, data: Buffer) -> None:
        """The bytes that a read asked for, in one chunk."""
        if self.structured:
            self.outgoing.append(
                p.CHUNK.pack(
                    p.STRUCTURED_REPLY_MAGIC,
                    p.REPLY_DONE,
                    p.ReplyType.OFFSET_DATA,
                    request.cookie,
                    8 + request.length,
                )
                + p.U64.pack(request.offset)
            )
        else:
            self.outgoing.append(p.SIMPLE_REPLY.pack(p.SIMPLE_REPLY_MAGIC, 0, request.cookie))
        self.outgoing.append(data)

    def reply_status(self, request: Request, extents: Extents) -> None:
        """Block status; at least one extent. With REQ_ONE the first alone is sent, cut to length."""
        if request.flags & REQ_ONE:
            length, state = extents[0]
            extents = [(min(length, request.length), state)]
        body = b"".join(p.EXTENT.pack(length, state) for length, state in extents)
        self.outgoing.append(
            p.CHUNK.pack(
                p.STRUCTURED_REPLY_MAGIC,
                p.REPLY_DONE,
                p.ReplyType.BLOCK_STATUS,
                request.cookie,
                4 + len(body),
            )
            + p.U32.pack(META_CONTEXT)
            + body
        )

    def reply_error(self, request: Request, error: int) -> None:
        """Failure, with an errno value."""
        wire = p.WIRE_ERRORS.get(error, p.WIRE_ERRORS[errno.EINVAL])
        if self.structured and request.kind in (Kind.READ, Kind.BLOCK_STATUS):
            self.outgoing.append(
                p.CHUNK.pack(
                    p.STRUCTURED_REPLY_MAGIC,
                    p.REPLY_DONE,
                    p.ReplyType.ERROR,
                    request.cookie,
                    p.CHUNK_ERROR.size,
                )
                + p.CHUNK_ERROR.pack(wire, 0)
            )
        else:
            self.outgoing.append(p.SIMPLE_REPLY.pack(p.SIMPLE_REPLY_MAGIC, wire, request.cookie))

    # ---------------------------------------------------------------- negotiating

    def _negotiate(self) -> Generator[int, bytes, None]:
        """Fixed newstyle negotiation. Yields how many bytes it needs next."""
        ours = int(p.Handshake.FIXED_NEWSTYLE | p.Handshake.NO_ZEROES)  # ~ of an IntFlag drops bits
        self.outgoing.append(p.HELLO.pack(p.NBDMAGIC, p.IHAVEOPT, ours))
        (theirs,) = p.U32.unpack((yield p.U32.size))
        if theirs & ~ours:
            raise NbdError(f"client sent unknown handshake flags 0x{theirs:x}")
        while True:
            magic, option, length = p.OPTION.unpack((yield p.OPTION.size))
            if magic != p.IHAVEOPT:
                raise NbdError(f"client sent 0x{magic:016x} where an option should start")
            if length > p.MAX_OPTION:
                while length:
                    step = min(length, p.MAX_OPTION)
                    yield step
                    length -= step
                self._option_reply(option, p.Rep.ERR_TOO_BIG)
                continue
            data = (yield length) if length else b""
            if option == p.Option.EXPORT_NAME:
                if data:  # the only export is the default one; this option has no error reply
                    self.finished = True
                    return
                self.outgoing.append(p.EXPORT.pack(self.export.size, self._flags()))
                if not theirs & p.Handshake.NO_ZEROES:
                    self.outgoing.append(bytes(124))
                self.negotiated = True
                return
            self._answer(option, data)
            if self.negotiated or self.finished:
                return

    def _answer(self, option: int, data: bytes) -> None:
        if option == p.Option.ABORT:
            self._option_reply(option, p.Rep.ACK)
            self.finished = True
        elif option == p.Option.LIST:
            if data:
                self._option_reply(option, p.Rep.ERR_INVALID)
            else:
                self._option_reply(option, p.Rep.SERVER, p.U32.pack(0))
                self._option_reply(option, p.Rep.ACK)
        elif option == p.Option.STRUCTURED_REPLY:
            if data:
                self._option_reply(option, p.Rep.ERR_INVALID)
            else:
                self.structured = True
                self._option_reply(option, p.Rep.ACK)
        elif option in (p.Option.INFO, p.Option.GO):
            self._answer_info(option, data)
        elif option in (p.Option.LIST_META_CONTEXT, p.Option.SET_META_CONTEXT):
            self._answer_context(option, data)
        else:
            self._option_reply(option, p.Rep.ERR_UNSUP)

    def _answer_info(self, option: int, data: bytes) -> None:
        parsed = _parse_info(data)
        if parsed is None:
            return self._option_reply(option, p.Rep.ERR_INVALID)
        name, wanted = parsed
        if name:
            return self._option_reply(option, p.Rep.ERR_UNKNOWN)
        export, sizes = self.export, self.export.sizes
        if p.Info.NAME in wanted:
            self._option_reply(option, p.Rep.INFO, p.U16.pack(p.Info.NAME))
        # always, asked for or not: "INFO_BLOCK_SIZE" allows it
        sizes_info = p.INFO_BLOCK_SIZE.pack(
            p.Info.BLOCK_SIZE, sizes.minimum, sizes.preferred, sizes.maximum
        )
        self._option_reply(option, p.Rep.INFO, sizes_info)
        info = p.INFO_EXPORT.pack(p.Info.EXPORT, export.size, self._flags())
        self._option_reply(option, p.Rep.INFO, info)
        self._option_reply(option, p.Rep.ACK)
        self.negotiated = option == p.Option.GO
        return None

    def _answer_context(self, option: int, data: bytes) -> None:
        parsed = _parse_context(data)
        if parsed is None or not self.structured:
            return self._option_reply(option, p.Rep.ERR_INVALID)
        name, queries = parsed
        if option == p.Option.SET_META_CONTEXT:
            self.meta_context = False  # whatever comes of it, it replaces what was set before
        if name:
            return self._option_reply(option, p.Rep.ERR_UNKNOWN)
        listing = option == p.Option.LIST_META_CONTEXT
        if p.BASE_ALLOCATION in queries or (listing and (not queries or b"base:" in queries)):
            context = META_CONTEXT if not listing else 0
            self._option_reply(option, p.Rep.META_CONTEXT, p.U32.pack(context) + p.BASE_ALLOCATION)
            self.meta_context = self.meta_context or not listing
        self._option_reply(option, p.Rep.ACK)
        return None

    def _option_reply(self, option: int, kind: int, data: bytes = b"") -> None:
        head = p.OPTION_REPLY.pack(p.OPTION_REPLY_MAGIC, option, kind, len(data))
        self.outgoing.append(head + data)

    def _flags(self) -> int:
        """Transmission flags; DF is on offer only where it means something."""
        flags = self.export.flags & ~p.TransmissionFlag.SEND_DF
        return flags | p.TransmissionFlag.SEND_DF if self.structured else flags


def _parse_info(data: bytes) -> tuple[bytes, list[int]] | None:
    """Export name and information types of an INFO or GO option; None where malformed."""
    if len(data) < 6:
        return None
    (length,) = p.U32.unpack_from(data)
    if length > p.MAX_STRING or len(data) < 6 + length:
        return None
    (count,) = p.U16.unpack_from(data, 4 + length)
    if len(data) != 6 + length + 2 * count:
        return None
    wanted = [p.U16.unpack_from(data, 6 + length + 2 * i)[0] for i in range(count)]
    return data[4 : 4 + length], wanted


def _parse_context(data: bytes) -> tuple[bytes, list[bytes]] | None:
    """Export name and queries of a META_CONTEXT option; None where malformed."""
    strings: list[bytes] = []
    at, left = 0, 1  # the name first; then a count and as many queries
    while left:
        if len(data) < at + 4:
            return None
        (length,) = p.U32.unpack_from(data, at)
        at += 4
        if length > p.MAX_STRING or len(data) < at + length:
            return None
        strings.append(data[at : at + length])
        at += length
        left -= 1
        if len(strings) == 1:
            if len(data) < at + 4:
                return None
            (left,) = p.U32.unpack_from(data, at)
            at += 4
    return (strings[0], strings[1:]) if at == len(data) else None
