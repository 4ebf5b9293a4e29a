"""The server's side of one NBD connection, as a state machine without a socket.

    server = Server(export)
    send(server.outgoing)                       # the server speaks first
    n = receive_into(server.target())
    for request in server.received(n): ...      # requests to carry out
    server.reply(request, ...)                  # adds to server.outgoing

The server itself refuses a request that breaks the protocol's rules, after reading all of the
request's bytes; the caller never sees it. A message that cannot be parsed raises NbdError: the
stream is out of sync, and the caller must close the connection.
"""

import errno
from collections.abc import Generator
from dataclasses import dataclass

from tracer.errors import NbdError, TlsError
from tracer.nbd import protocol as p
from tracer.nbd.inbox import Inbox
from tracer.nbd.options import parse_context, parse_info
from tracer.op import MUTATING, Buffer, Extents, Flag, Kind

META_CONTEXT = 1
"""The id of base:allocation. Any number would do."""

TLS_NEEDED = b"this server needs TLS: connect with nbds:// or nbds+unix://"
TLS_IS_OFF = b"this server was started without TLS"
"""What people read who connect in the wrong way."""

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
"""The flags that each command may have. FUA is valid with all of them if the export offers it
("Command flags": servers should accept it even if it has no meaning). DF needs structured replies.
"""


@dataclass(slots=True)
class Request:
    """A request to carry out. ``data`` is a write's payload."""

    cookie: int
    kind: int
    flags: int
    offset: int
    length: int
    data: bytes | bytearray | None = None


class Server:
    """The state of one connection. ``outgoing`` has the bytes to send; the owner empties it.

    With ``tls``, it takes no client without TLS ("FORCEDTLS mode"). It must then be inside a
    ``nbd.tls.Secured``.
    """

    def __init__(self, export: p.Export, *, tls: bool = False) -> None:
        self.export = export
        self.outgoing: list[Buffer] = []
        self.cleartext: list[Buffer] | None = None
        """What is still to be sent before TLS begins; None while it has not begun."""
        self.negotiated = False
        self.finished = False
        """The client left or was refused: send ``outgoing``, then close the connection."""
        self.structured = False
        self.meta_context = False
        self.refused = 0
        """The number of requests that were refused because they break the protocol's rules."""
        self._name = export.name.encode()
        self._tls = tls
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
        """Return the memory for the next received bytes."""
        return self._inbox.target()

    def received(self, count: int) -> list[Request]:
        """Parse ``count`` bytes that were received into ``target()``; return the complete requests.

        Raises NbdError if the client does not speak NBD.
        """
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
        """Return the errno with which to refuse a request, or 0."""
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
        """Return the commands that are valid after negotiation, and the valid flags of each."""
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
        """Queue a success for a request that returns no data."""
        self.outgoing.append(p.SIMPLE_REPLY.pack(p.SIMPLE_REPLY_MAGIC, 0, request.cookie))

    def reply_read(self, request: Request, data: Buffer) -> None:
        """Queue the bytes of a read, in one chunk."""
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
        """Queue block status: one extent or more. With REQ_ONE, the first is cut to the length."""
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
        """Queue a failure with an errno value."""
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
        """Do fixed newstyle negotiation. Yields the number of bytes that it needs next."""
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
                if self._tls_missing or not self._serves(data):  # this option has no error reply
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
        elif option == p.Option.STARTTLS:
            self._answer_starttls(data)
        elif self._tls_missing:
            self._option_reply(option, p.Rep.ERR_TLS_REQD, TLS_NEEDED)
        elif option == p.Option.LIST:
            if data:
                self._option_reply(option, p.Rep.ERR_INVALID)
            else:
                name = p.U32.pack(len(self._name)) + self._name
                self._option_reply(option, p.Rep.SERVER, name + self.export.description.encode())
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

    @property
    def _tls_missing(self) -> bool:
        """Whether the client must begin TLS before anything else."""
        return self._tls and self.cleartext is None

    def _serves(self, name: bytes) -> bool:
        """Whether a client may ask for this name. The only export is the default export too."""
        return name in (b"", self._name)

    def _answer_starttls(self, data: bytes) -> None:
        if not self._tls:
            return self._option_reply(p.Option.STARTTLS, p.Rep.ERR_POLICY, TLS_IS_OFF)
        if data or self.cleartext is not None:
            return self._option_reply(p.Option.STARTTLS, p.Rep.ERR_INVALID)
        if self._inbox.available:  # it would count as sent inside TLS
            raise TlsError("it sent data between its wish for TLS and TLS")
        self._option_reply(p.Option.STARTTLS, p.Rep.ACK)
        self.cleartext, self.outgoing = self.outgoing, []
        return None

    def _answer_info(self, option: int, data: bytes) -> None:
        parsed = parse_info(data)
        if parsed is None:
            return self._option_reply(option, p.Rep.ERR_INVALID)
        name, wanted = parsed
        if not self._serves(name):
            return self._option_reply(option, p.Rep.ERR_UNKNOWN)
        export, sizes = self.export, self.export.sizes
        if p.Info.NAME in wanted:
            self._option_reply(option, p.Rep.INFO, p.U16.pack(p.Info.NAME) + self._name)
        if p.Info.DESCRIPTION in wanted and export.description:
            text = export.description.encode()
            self._option_reply(option, p.Rep.INFO, p.U16.pack(p.Info.DESCRIPTION) + text)
        # sent even if the client did not ask for it: "INFO_BLOCK_SIZE" allows that
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
        parsed = parse_context(data)
        if parsed is None or not self.structured:
            return self._option_reply(option, p.Rep.ERR_INVALID)
        name, queries = parsed
        if option == p.Option.SET_META_CONTEXT:
            self.meta_context = False  # this option replaces an earlier choice, even if it fails
        if not self._serves(name):
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
        """Return the transmission flags. DF is offered only with structured replies."""
        flags = self.export.flags & ~p.TransmissionFlag.SEND_DF
        return flags | p.TransmissionFlag.SEND_DF if self.structured else flags
