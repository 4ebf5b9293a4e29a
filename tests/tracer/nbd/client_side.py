"""What a client says, and conversations in which our server hears it.

Every conversation is held whole, byte by byte, in odd pieces, and with the start of one more
message behind it: what comes of it must be the same.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat

from tests.kit.machines import drain, feed
from tracer.errors import NbdError
from tracer.nbd import protocol as p
from tracer.nbd.protocol import Option, TransmissionFlag
from tracer.nbd.server import Request, Server
from tracer.op import Kind

SIZE = 1 << 20


ALL = (
    TransmissionFlag.HAS_FLAGS
    | TransmissionFlag.SEND_FLUSH
    | TransmissionFlag.SEND_FUA
    | TransmissionFlag.SEND_TRIM
    | TransmissionFlag.SEND_WRITE_ZEROES
    | TransmissionFlag.SEND_CACHE
    | TransmissionFlag.SEND_FAST_ZERO
)


EXPORT = p.Export(SIZE, ALL)


HELLO = p.U32.pack(3)  # FIXED_NEWSTYLE | NO_ZEROES


EVERY = 255


Reply = tuple[int, int, bytes]
"""Option, type, data."""


# ---------------------------------------------------------------- what a client says


def option(number: int, data: bytes = b"") -> bytes:
    return p.OPTION.pack(p.IHAVEOPT, number, len(data)) + data


def info(name: bytes = b"", wanted: Iterable[int] = ()) -> bytes:
    types = list(wanted)
    return p.U32.pack(len(name)) + name + struct.pack(f">H{len(types)}H", len(types), *types)


def context(*queries: bytes, name: bytes = b"") -> bytes:
    strings = b"".join(p.U32.pack(len(query)) + query for query in queries)
    return p.U32.pack(len(name)) + name + p.U32.pack(len(queries)) + strings


def request(kind: int, offset: int = 0, length: int = 0, flags: int = 0, cookie: int = 7) -> bytes:
    return p.REQUEST.pack(p.REQUEST_MAGIC, flags, kind, cookie, offset, length)


PLAIN = HELLO + option(Option.GO, info())


STRUCTURED = HELLO + option(Option.STRUCTURED_REPLY) + option(Option.GO, info())


FULL = (
    HELLO
    + option(Option.STRUCTURED_REPLY)
    + option(Option.SET_META_CONTEXT, context(p.BASE_ALLOCATION))
    + option(Option.GO, info())
)


# ---------------------------------------------------------------- holding a conversation


@dataclass
class Outcome:
    """What came of a conversation."""

    requests: list[Request]
    said: bytes
    negotiated: bool
    finished: bool
    refused: int
    error: str = ""


def hold(export: p.Export, data: bytes, sizes: Iterable[int]) -> Outcome:
    server = Server(export)
    requests: list[Request] = []
    error = ""
    try:
        requests = feed(server, data, sizes)
    except NbdError as caught:
        error = str(caught)
    for one in requests:
        one.data = bytes(one.data) if one.data is not None else None
    said = drain(server)
    return Outcome(requests, said, server.negotiated, server.finished, server.refused, error)


def converse(data: bytes, export: p.Export = EXPORT) -> Outcome:
    """Hold a conversation in every way; return what came of it, always the same."""
    outcome = hold(export, data, ())
    behind = request(Kind.FLUSH)[:-1] if outcome.negotiated else option(Option.ABORT)[:-1]
    others = [
        hold(export, data, repeat(1)),
        hold(export, data, repeat(7)),
        hold(export, data, (len(data) - 1, 1)),
        hold(export, data + behind, ()),
    ]
    for other in others:
        if outcome.error:  # requests parsed before the error are lost with the connection
            other.requests = outcome.requests
        assert other == outcome
    return outcome


def refused(data: bytes, export: p.Export = EXPORT) -> str:
    """Hold a conversation that ends the connection; return why."""
    outcome = converse(data, export)
    assert outcome.error
    return outcome.error


def option_replies(said: bytes) -> list[Reply]:
    """What the server said to options, after its greeting."""
    assert said[: p.HELLO.size] == p.HELLO.pack(p.NBDMAGIC, p.IHAVEOPT, 3)
    replies, at = [], p.HELLO.size
    while at < len(said):
        magic, number, kind, length = p.OPTION_REPLY.unpack_from(said, at)
        assert magic == p.OPTION_REPLY_MAGIC
        at += p.OPTION_REPLY.size
        replies.append((number, kind, said[at : at + length]))
        at += length
    return replies


def ask(number: int, data: bytes = b"", before: bytes = b"") -> list[Reply]:
    """The replies to one option."""
    outcome = converse(HELLO + before + option(number, data))
    skip = len(option_replies(converse(HELLO + before).said))
    return option_replies(outcome.said)[skip:]


def after(start: bytes, data: bytes, export: p.Export = EXPORT) -> Outcome:
    """What comes of ``data`` once negotiation is over; ``said`` is what was said after it."""
    outcome = converse(start + data, export)
    outcome.said = outcome.said[len(converse(start, export).said) :]
    return outcome


def simple(error: int = 0, cookie: int = 7) -> bytes:
    return p.SIMPLE_REPLY.pack(p.SIMPLE_REPLY_MAGIC, error, cookie)


def chunk(kind: int, body: bytes, cookie: int = 7, flags: int = p.REPLY_DONE) -> bytes:
    return p.CHUNK.pack(p.STRUCTURED_REPLY_MAGIC, flags, kind, cookie, len(body)) + body
