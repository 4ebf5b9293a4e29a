"""The client's state machine, fed with what servers say, good and bad. No socket.

Every conversation is held whole, byte by byte, in odd pieces and with the start of one more reply
behind it: what comes of it must be the same.
"""

import errno
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import drain, feed
from tracer.errors import NbdError
from tracer.nbd import protocol as p
from tracer.nbd.client import MAX_CHUNK_SLACK, MAX_EXTENTS, Client, Reply
from tracer.nbd.inbox import CAPACITY
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


# ---------------------------------------------------------------- negotiation


def option(number: int, data: bytes = b"") -> bytes:
    return p.OPTION.pack(p.IHAVEOPT, number, len(data)) + data


NAME = p.U32.pack(4) + b"disk"
ASKS_GO = option(Option.GO, NAME + p.U16.pack(1) + p.U16.pack(Info.BLOCK_SIZE))
ASKS_CONTEXT = option(
    Option.SET_META_CONTEXT, NAME + p.U32.pack(1) + p.U32.pack(15) + b"base:allocation"
)


def test_a_modern_server() -> None:
    outcome = converse(STRUCTURED)
    assert outcome.export == p.Export(SIZE, FLAGS)
    assert outcome.said == p.U32.pack(3) + option(Option.STRUCTURED_REPLY) + ASKS_CONTEXT + ASKS_GO


def test_it_asks_nothing_before_the_server_speaks() -> None:
    client = Client("disk")
    assert drain(client) == b""
    feed(client, hello()[:-1])
    assert drain(client) == b""


def test_a_server_without_structured_replies_is_not_asked_for_contexts() -> None:
    client = Client("disk")
    feed(client, SIMPLE)
    assert drain(client) == p.U32.pack(3) + option(Option.STRUCTURED_REPLY) + ASKS_GO
    assert not client.structured
    assert not client.meta_context


@pytest.mark.parametrize("kind", [Rep.ERR_UNSUP, Rep.ERR_INVALID, Rep.ERR_UNKNOWN])
def test_a_server_that_refuses_contexts(kind: Rep) -> None:
    client = Client("disk")
    feed(client, hello() + HAS_STRUCTURED + rep(Option.SET_META_CONTEXT, kind) + GOES)
    assert client.export is not None
    assert client.structured
    assert not client.meta_context


def test_a_server_that_knows_no_context() -> None:
    client = Client("disk")
    feed(client, hello() + HAS_STRUCTURED + rep(Option.SET_META_CONTEXT, Rep.ACK) + GOES)
    assert client.export is not None
    assert not client.meta_context


@pytest.mark.parametrize("padding", [0, 124])
def test_a_server_without_go_is_asked_by_name(padding: int) -> None:
    wire = hello(3 if not padding else 1) + NO_STRUCTURED + rep(Option.GO, Rep.ERR_UNSUP)
    outcome = converse(wire + p.EXPORT.pack(SIZE, FLAGS) + bytes(padding))
    assert outcome.export == p.Export(SIZE, FLAGS)
    assert outcome.said.endswith(ASKS_GO + option(Option.EXPORT_NAME, b"disk"))


def test_block_sizes_are_taken_over() -> None:
    sizes = block_sizes(512, 65536, 1 << 20)
    outcome = converse(hello() + NO_STRUCTURED + sizes + GOES)
    assert outcome.export == p.Export(SIZE, FLAGS, p.BlockSizes(512, 65536, 1 << 20))


def test_a_maximum_above_what_we_ever_send_is_lowered() -> None:
    outcome = converse(hello() + NO_STRUCTURED + block_sizes(1, 4096, (1 << 32) - 1) + GOES)
    assert outcome.export is not None
    assert outcome.export.sizes.maximum == p.MAX_PAYLOAD


@pytest.mark.parametrize("minimum", [0, 3, 513, 131072])
def test_an_absurd_minimum_block_size(minimum: int) -> None:
    assert "minimum block size" in broken(
        hello() + NO_STRUCTURED + block_sizes(minimum, 1, 1) + GOES
    )


def test_information_that_is_not_known_is_passed_over() -> None:
    more = rep(Option.GO, Rep.INFO, p.U16.pack(99) + b"what?") + rep(Option.GO, Rep.INFO, b"")
    assert converse(hello() + NO_STRUCTURED + more + GOES).export == p.Export(SIZE, FLAGS)


def test_a_server_that_does_not_tell_the_size() -> None:
    wire = hello() + NO_STRUCTURED + rep(Option.GO, Rep.ACK)
    assert broken(wire) == "server did not tell the export's size"


@pytest.mark.parametrize(
    ("kind", "message", "reason"),
    [
        (Rep.ERR_UNKNOWN, b"no such disk", "no such disk"),
        (Rep.ERR_UNKNOWN, b"", "ERR_UNKNOWN"),
        (Rep.ERR_TLS_REQD, b"", "ERR_TLS_REQD"),
        (Rep.ERR_POLICY, b"\xff", "\ufffd"),
        ((1 << 31) + 99, b"", "0x80000063"),
    ],
)
def test_a_refused_export(kind: int, message: bytes, reason: str) -> None:
    wire = hello() + NO_STRUCTURED + rep(Option.GO, kind, message)
    assert broken(wire) == f"it refuses the export 'disk': {reason}"


@pytest.mark.parametrize(
    "greeting",
    [
        p.HELLO.pack(p.NBDMAGIC, p.OLDSTYLE_MAGIC, 0),
        p.HELLO.pack(p.NBDMAGIC, 12345, 3),
        hello(0),
        hello(2),
        b"SSH-2.0-OpenSSH_9.2p1",
    ],
)
def test_servers_of_another_style(greeting: bytes) -> None:
    assert "newstyle NBD" in broken(greeting)


@pytest.mark.parametrize(
    "answer",
    [
        rep(Option.GO, Rep.ACK),
        p.OPTION_REPLY.pack(1, Option.STRUCTURED_REPLY, Rep.ACK, 0),
    ],
)
def test_an_answer_to_something_else(answer: bytes) -> None:
    assert "does not belong" in broken(hello() + answer)


def test_an_option_reply_that_is_too_long() -> None:
    head = p.OPTION_REPLY.pack(
        p.OPTION_REPLY_MAGIC, Option.STRUCTURED_REPLY, Rep.ACK, p.MAX_OPTION + 1
    )
    assert "option reply of 65537 bytes" in broken(hello() + head)


# ---------------------------------------------------------------- requests


def test_a_request_on_the_wire() -> None:
    client = Client()
    feed(client, SIMPLE)
    drain(client)
    cookie = client.request(Kind.WRITE, 1, 4096, 4, b"abcd")
    assert drain(client) == p.REQUEST.pack(p.REQUEST_MAGIC, 1, 1, cookie, 4096, 4) + b"abcd"


def test_cookies_differ() -> None:
    client = Client()
    assert len({client.request(*FLUSH[:1], 0, 0, 0) for _ in range(10)}) == 10


def test_goodbye() -> None:
    client = Client()
    client.disconnect()
    assert drain(client) == p.REQUEST.pack(p.REQUEST_MAGIC, 0, p.DISC, 0, 0, 0)


# ---------------------------------------------------------------- simple replies


@pytest.mark.parametrize("start", [SIMPLE, STRUCTURED])
def test_success(start: bytes) -> None:
    assert only_reply(start, FLUSH, simple()) == Reply(0)


@pytest.mark.parametrize(
    ("wire", "number"),
    [
        (1, errno.EPERM),
        (5, errno.EIO),
        (28, errno.ENOSPC),
        (95, errno.ENOTSUP),
        (4242, errno.EINVAL),
    ],
)
@pytest.mark.parametrize("start", [SIMPLE, STRUCTURED])
def test_failure(start: bytes, wire: int, number: int) -> None:
    assert only_reply(start, FLUSH, simple(wire)) == Reply(0, number)


def test_a_simple_read() -> None:
    data = bytes(range(256)) * 4
    assert only_reply(SIMPLE, READ, simple(data=data)) == Reply(0, 0, data)


def test_a_simple_read_that_failed_has_no_data() -> None:
    outcome = converse(SIMPLE, READ, FLUSH, wire=simple(5) + simple(cookie=1))
    assert outcome.replies == [Reply(0, errno.EIO), Reply(1)]


def test_a_large_simple_read() -> None:
    data = bytes(range(256)) * 4096 * 3
    outcome = hold(SIMPLE, [(Kind.READ, 0, len(data))], simple(data=data), repeat(65_537))
    assert outcome.replies == [Reply(0, 0, data)]


@pytest.mark.parametrize("start", [SIMPLE, STRUCTURED])
def test_a_burst_larger_than_the_receive_buffer(start: bytes) -> None:
    """Its end falls within a reply, which the next receive completes."""
    count = CAPACITY // 10
    data = [bytes([at % 251] * 5) for at in range(count)]
    if start == SIMPLE:
        wire = b"".join(simple(cookie=at, data=data[at]) for at in range(count))
    else:
        wire = b"".join(data_chunk(at, data[at], cookie=at) for at in range(count))
    replies = hold(start, [(Kind.READ, at, 5) for at in range(count)], wire, ()).replies
    assert replies == [Reply(at, 0, data[at]) for at in range(count)]


def test_replies_come_in_any_order() -> None:
    one, two = b"1" * 1024, b"2" * 1024
    wire = simple(cookie=2) + simple(cookie=1, data=two) + simple(cookie=0, data=one)
    replies = converse(SIMPLE, READ, READ, FLUSH, wire=wire).replies
    assert replies == [Reply(2), Reply(1, 0, two), Reply(0, 0, one)]


@pytest.mark.parametrize("wire", [simple(cookie=1), chunk(ReplyType.NONE, cookie=1)])
def test_a_reply_to_nothing(wire: bytes) -> None:
    assert "not sent (cookie 1)" in broken(STRUCTURED, FLUSH, wire=wire)


def test_a_second_reply_to_one_request() -> None:
    assert "not sent (cookie 0)" in broken(SIMPLE, FLUSH, wire=simple() + simple())


def test_something_else_than_a_reply() -> None:
    assert "where a reply should start" in broken(SIMPLE, FLUSH, wire=b"\0" * 16)


def test_a_structured_reply_that_was_not_negotiated() -> None:
    assert "where a reply should start" in broken(SIMPLE, FLUSH, wire=chunk(ReplyType.NONE))


@pytest.mark.parametrize("ask", [READ, STATUS])
@pytest.mark.parametrize("error", [0, 5])
def test_a_simple_reply_where_a_structured_one_is_owed(ask: Ask, error: int) -> None:
    assert "owes a structured one" in broken(STRUCTURED, ask, wire=simple(error))


# ---------------------------------------------------------------- structured replies

DATA = bytes(range(256)) * 4


def test_a_read_in_one_chunk() -> None:
    assert only_reply(STRUCTURED, READ, data_chunk(512, DATA)) == Reply(0, 0, DATA)


def test_a_read_in_several_chunks_in_any_order() -> None:
    wire = (
        data_chunk(1024, DATA[512:1000], flags=0)
        + hole_chunk(1512, 24, flags=0)
        + data_chunk(512, DATA[:512], flags=0)
        + chunk(ReplyType.NONE)
    )
    assert only_reply(STRUCTURED, READ, wire) == Reply(0, 0, DATA[:1000] + bytes(24))


def test_a_hole_over_all_of_it() -> None:
    assert only_reply(STRUCTURED, READ, hole_chunk(512, 1024)) == Reply(0, 0, bytes(1024))


def test_chunks_of_two_replies_may_alternate() -> None:
    wire = (
        data_chunk(512, DATA[:512], cookie=0, flags=0)
        + data_chunk(512, DATA[512:], cookie=1, flags=0)
        + data_chunk(1024, DATA[512:], cookie=0)
        + data_chunk(1024, DATA[:512], cookie=1)
    )
    replies = converse(STRUCTURED, READ, READ, wire=wire).replies
    assert replies == [Reply(0, 0, DATA), Reply(1, 0, DATA[512:] + DATA[:512])]


def test_a_large_read_in_chunks() -> None:
    size, step = 3 << 20, 700_001
    data = DATA * (size // len(DATA))
    wire = b"".join(data_chunk(at, data[at : at + step], flags=0) for at in range(0, size, step))
    outcome = hold(STRUCTURED, [(Kind.READ, 0, size)], wire + chunk(ReplyType.NONE), repeat(99_991))
    assert outcome.replies == [Reply(0, 0, data)]


@given(
    st.lists(st.integers(1, 3000), max_size=30),
    st.lists(st.integers(1, 900), min_size=1, max_size=9),
)
def test_reads_split_anywhere(sizes: list[int], lengths: list[int]) -> None:
    total = sum(lengths)
    data = (DATA * 10)[:total]
    wire, at = b"", 0
    for length in lengths:
        wire += data_chunk(at, data[at : at + length], flags=0)
        at += length
    wire += chunk(ReplyType.NONE)
    outcome = hold(STRUCTURED, [(Kind.READ, 0, total), FLUSH], wire + simple(cookie=1), sizes)
    assert outcome.replies == [Reply(0, 0, data), Reply(1)]


@pytest.mark.parametrize("ask", [READ, STATUS])
def test_a_structured_error(ask: Ask) -> None:
    assert only_reply(STRUCTURED, ask, error_chunk(5, b"disk on fire")).error == errno.EIO


def test_an_error_at_an_offset() -> None:
    body = p.CHUNK_ERROR.pack(28, 0) + p.U64.pack(512)
    assert only_reply(STRUCTURED, READ, chunk(ReplyType.ERROR_OFFSET, body)).error == errno.ENOSPC


def test_an_error_type_that_is_not_known_is_an_error_all_the_same() -> None:
    wire = chunk(p.REPLY_ERROR + 77, p.CHUNK_ERROR.pack(5, 0) + b"more")
    assert only_reply(STRUCTURED, READ, wire).error == errno.EIO


def test_an_error_of_zero_is_an_error_all_the_same() -> None:
    assert only_reply(STRUCTURED, READ, error_chunk(0)).error == errno.EIO


def test_an_error_after_some_data() -> None:
    wire = data_chunk(512, DATA[:512], flags=0) + error_chunk(5)
    assert only_reply(STRUCTURED, READ, wire).error == errno.EIO


def test_a_structured_reply_to_a_write() -> None:
    ask = (Kind.WRITE, 0, 512)
    assert only_reply(STRUCTURED, ask, chunk(ReplyType.NONE)) == Reply(0)
    assert only_reply(STRUCTURED, ask, error_chunk(28)) == Reply(0, errno.ENOSPC)


def test_block_status() -> None:
    reply = only_reply(STRUCTURED, STATUS, status_chunk((4096, 3), (1 << 30, 0)))
    assert reply == Reply(0, 0, None, [(4096, 3), (1 << 30, 0)])


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (data_chunk(0, DATA), "out of bounds"),
        (data_chunk(511, DATA), "out of bounds"),
        (data_chunk(513, DATA), "out of bounds"),
        (data_chunk(512, DATA + b"x"), "out of bounds"),
        (data_chunk((1 << 64) - 512, DATA), "out of bounds"),
        (hole_chunk(512, 1025), "out of bounds"),
        (hole_chunk(512, 0), "out of bounds"),
        (data_chunk(512, b""), "a data chunk without data"),
        (chunk(ReplyType.OFFSET_DATA, bytes(3)), ""),
        (data_chunk(512, DATA[:512]), "does not cover it all"),
        (hole_chunk(512, 1023), "does not cover it all"),
        (chunk(ReplyType.NONE), "does not cover it all"),
        (data_chunk(512, DATA, flags=0) + data_chunk(512, DATA[:1]), "out of bounds"),
        (chunk(ReplyType.NONE, b"x"), "NONE with a payload"),
        (chunk(ReplyType.OFFSET_HOLE, bytes(11)), "a malformed hole chunk"),
        (chunk(ReplyType.ERROR, bytes(5)), "a malformed error chunk"),
        (chunk(3, b""), "unknown type of chunk (3)"),
        (status_chunk((512, 0)), "block status where none was asked for"),
    ],
)
def test_read_replies_that_break_the_protocol(wire: bytes, why: str) -> None:
    assert why in broken(STRUCTURED, READ, wire=wire.ljust(64, b"\0"))


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (chunk(ReplyType.BLOCK_STATUS, bytes(4)), "malformed block status"),
        (chunk(ReplyType.BLOCK_STATUS, bytes(11)), "malformed block status"),
        (chunk(ReplyType.BLOCK_STATUS, bytes(16)), "malformed block status"),
        (status_chunk((512, 0), (0, 3)), "an empty block status extent"),
        (chunk(ReplyType.NONE), "without an extent"),
        (data_chunk(0, DATA), "read data where none was asked for"),
        (hole_chunk(0, 512), "read data where none was asked for"),
    ],
)
def test_block_status_replies_that_break_the_protocol(wire: bytes, why: str) -> None:
    assert why in broken(STRUCTURED, STATUS, wire=wire)


@pytest.mark.parametrize(
    ("ask", "length"),
    [(READ, 1024 + MAX_CHUNK_SLACK + 1), (STATUS, MAX_CHUNK_SLACK + 1), (READ, (1 << 32) - 1)],
)
def test_a_chunk_that_is_too_long_is_refused_before_it_comes(ask: Ask, length: int) -> None:
    head = p.CHUNK.pack(p.STRUCTURED_REPLY_MAGIC, DONE, ReplyType.OFFSET_DATA, 0, length)
    assert "more than was asked for" in broken(STRUCTURED, ask, wire=head)


def test_as_many_extents_as_a_server_may_list() -> None:
    """qemu lists up to 131,072: more than fits the receive buffer."""
    many = [(512, index % 2) for index in range(131_072)]
    length = 512 * len(many)
    replies = converse(STRUCTURED, (Kind.BLOCK_STATUS, 0, length), wire=status_chunk(*many)).replies
    assert replies[0].extents == many
    head = p.CHUNK.pack(
        p.STRUCTURED_REPLY_MAGIC, DONE, ReplyType.BLOCK_STATUS, 0, MAX_CHUNK_SLACK + MAX_EXTENTS + 1
    )
    assert "more than was asked for" in broken(STRUCTURED, STATUS, wire=head)


@pytest.mark.parametrize("kind", [ReplyType.NONE, ReplyType.OFFSET_HOLE, ReplyType.ERROR, 77])
def test_a_long_chunk_of_a_type_that_is_short(kind: int) -> None:
    wire = chunk(kind, bytes(1 << 20))
    assert hold(STRUCTURED, [(Kind.READ, 0, 2 << 20)], wire, repeat(65_537)).error


def test_an_error_message_as_long_as_it_may_be() -> None:
    wire = error_chunk(5, b"m" * 4096) + simple(cookie=1)
    assert [reply.error for reply in converse(STRUCTURED, STATUS, FLUSH, wire=wire).replies] == [
        5,
        0,
    ]


@given(st.binary(max_size=300), st.sampled_from([b"", hello(), SIMPLE, STRUCTURED]))
def test_garbage_never_does_worse_than_end_the_connection(garbage: bytes, start: bytes) -> None:
    hold(start, [READ, STATUS, FLUSH], garbage, ())  # NbdError is caught there, and nothing else is


@given(st.data())
def test_chunks_of_any_shape_never_do_worse_than_end_the_connection(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([*ReplyType, 3, 77, p.REPLY_ERROR + 9]))
    wire = chunk(
        kind,
        data.draw(st.binary(max_size=40)),
        data.draw(st.sampled_from([0, 1, 2])),
        data.draw(st.sampled_from([0, 1, 3])),
    )
    hold(STRUCTURED, [READ, STATUS, FLUSH], wire, ())
