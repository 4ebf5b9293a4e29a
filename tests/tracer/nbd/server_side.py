"""What a server says, and conversations in which our client hears it.

Every conversation is held whole, byte by byte, in odd pieces and with the start of one more reply
behind it: what comes of it must be the same.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import repeat

from tests.kit.machines import drain, feed
from tracer.errors import NbdError
from tracer.nbd import protocol as p
from tracer.nbd.client import Client, Reply
from tracer.nbd.protocol import Info, Option, Rep, ReplyType, TransmissionFlag
from tracer.op import Kind

SIZE = 1 << 20


FLAGS = int(TransmissionFlag.HAS_FLAGS | TransmissionFlag.SEND_FLUSH)


DONE = p.REPLY_DONE


# ---------------------------------------------------------------- what a server says


def hello(flags: int = 3) -> bytes:
    return p.HELLO.pack(p.NBDMAGIC, p.IHAVEOPT, flags)


def rep(option: int, kind: int, data: bytes = b"") -> bytes:
    return p.OPTION_REPLY.pack(p.OPTION_REPLY_MAGIC, option, kind, len(data)) + data


def export_info(size: int = SIZE, flags: int = FLAGS) -> bytes:
    return rep(Option.GO, Rep.INFO, p.INFO_EXPORT.pack(Info.EXPORT, size, flags))


def block_sizes(minimum: int, preferred: int, maximum: int) -> bytes:
    return rep(Option.GO, Rep.INFO, p.INFO_BLOCK_SIZE.pack(3, minimum, preferred, maximum))


NO_STRUCTURED = rep(Option.STRUCTURED_REPLY, Rep.ERR_UNSUP)


HAS_STRUCTURED = rep(Option.STRUCTURED_REPLY, Rep.ACK)


HAS_CONTEXT = rep(
    Option.SET_META_CONTEXT, Rep.META_CONTEXT, p.U32.pack(5) + p.BASE_ALLOCATION
) + rep(Option.SET_META_CONTEXT, Rep.ACK)


GOES = export_info() + rep(Option.GO, Rep.ACK)


SIMPLE = hello() + NO_STRUCTURED + GOES


STRUCTURED = hello() + HAS_STRUCTURED + HAS_CONTEXT + GOES


def simple(error: int = 0, cookie: int = 0, data: bytes = b"") -> bytes:
    return p.SIMPLE_REPLY.pack(p.SIMPLE_REPLY_MAGIC, error, cookie) + data


def chunk(kind: int, body: bytes = b"", cookie: int = 0, flags: int = DONE) -> bytes:
    return p.CHUNK.pack(p.STRUCTURED_REPLY_MAGIC, flags, kind, cookie, len(body)) + body


def data_chunk(offset: int, data: bytes, cookie: int = 0, flags: int = DONE) -> bytes:
    return chunk(ReplyType.OFFSET_DATA, p.U64.pack(offset) + data, cookie, flags)


def hole_chunk(offset: int, length: int, cookie: int = 0, flags: int = DONE) -> bytes:
    return chunk(ReplyType.OFFSET_HOLE, p.HOLE.pack(offset, length), cookie, flags)


def error_chunk(error: int, message: bytes = b"", flags: int = DONE) -> bytes:
    return chunk(ReplyType.ERROR, p.CHUNK_ERROR.pack(error, len(message)) + message, flags=flags)


def status_chunk(*extents: tuple[int, int], flags: int = DONE) -> bytes:
    body = b"".join(struct.pack(">2I", *extent) for extent in extents)
    return chunk(ReplyType.BLOCK_STATUS, p.U32.pack(5) + body, flags=flags)


# ---------------------------------------------------------------- holding a conversation


Ask = tuple[int, int, int]
"""Kind, offset, length."""


@dataclass
class Outcome:
    """What came of a conversation; of a broken one, why, and nothing else."""

    error: str = ""
    export: p.Export | None = None
    said: bytes = b""
    replies: list[Reply] = field(default_factory=list)


def hold(start: bytes, asks: Iterable[Ask], wire: bytes, sizes: Iterable[int]) -> Outcome:
    client = Client("disk")
    sizes = list(sizes) if not isinstance(sizes, repeat) else sizes
    try:
        assert feed(client, start, sizes) == []
        for ask in asks:
            client.request(ask[0], 0, *ask[1:])
        replies = feed(client, wire, sizes)
    except NbdError as error:
        return Outcome(str(error))
    for reply in replies:
        reply.data = bytes(reply.data) if reply.data is not None else None
    return Outcome("", client.export, drain(client), replies)


def converse(start: bytes, *asks: Ask, wire: bytes = b"") -> Outcome:
    """Hold a conversation in every way; return what came of it, always the same."""
    outcome = hold(start, asks, wire, ())
    others = [
        hold(start, asks, wire, repeat(1)),
        hold(start, asks, wire, repeat(7)),
        hold(start, asks, wire, (max(len(wire), 2) - 1,)),
    ]
    if not outcome.error and outcome.export is not None:
        others.append(hold(start, asks, wire + simple()[:-1], ()))
    for other in others:
        assert other == outcome
    return outcome


def only_reply(start: bytes, ask: Ask, wire: bytes) -> Reply:
    (reply,) = converse(start, ask, wire=wire).replies
    return reply


def broken(start: bytes, *asks: Ask, wire: bytes = b"") -> str:
    """Hold a conversation that must end in an NbdError; return why."""
    outcome = converse(start, *asks, wire=wire)
    assert outcome.error, outcome
    assert "\n" not in outcome.error
    return outcome.error


READ = (Kind.READ, 512, 1024)


STATUS = (Kind.BLOCK_STATUS, 0, 8192)


FLUSH = (Kind.FLUSH, 0, 0)
