"""Structured replies to the client, good and bad, chunk by chunk. No socket."""

import errno
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.machines import feed
from tests.tracer.nbd.server_side import (
    DONE,
    FLUSH,
    READ,
    SIMPLE,
    STATUS,
    STRUCTURED,
    Ask,
    broken,
    chunk,
    converse,
    data_chunk,
    error_chunk,
    hello,
    hold,
    hole_chunk,
    only_reply,
    simple,
    status_chunk,
)
from tracer.nbd import protocol as p
from tracer.nbd.answer import MAX_EMPTY, MAX_EXTENTS, MAX_SLACK, MAX_STATUS
from tracer.nbd.client import STEP, Client, Reply
from tracer.nbd.protocol import ReplyType
from tracer.op import Kind

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
        (data_chunk(512, DATA[:512]), "does not cover the whole read"),
        (hole_chunk(512, 1023), "does not cover the whole read"),
        (chunk(ReplyType.NONE), "does not cover the whole read"),
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
    [(READ, 1024 + MAX_SLACK + 1), (STATUS, MAX_SLACK + 1), (READ, (1 << 32) - 1)],
)
def test_a_chunk_that_is_too_long_is_refused_before_it_comes(ask: Ask, length: int) -> None:
    head = p.CHUNK.pack(p.STRUCTURED_REPLY_MAGIC, DONE, ReplyType.OFFSET_DATA, 0, length)
    assert "more than was asked for" in broken(STRUCTURED, ask, wire=head)


def test_of_more_extents_than_are_kept_the_first_count() -> None:
    """qemu lists up to 131,072: more than fits the receive buffer."""
    many = [(512, index % 2) for index in range(131_072)]
    length = 512 * len(many)
    replies = converse(STRUCTURED, (Kind.BLOCK_STATUS, 0, length), wire=status_chunk(*many)).replies
    assert replies[0].extents == many[:MAX_EXTENTS]
    head = p.CHUNK.pack(
        p.STRUCTURED_REPLY_MAGIC, DONE, ReplyType.BLOCK_STATUS, 0, MAX_SLACK + MAX_STATUS + 1
    )
    assert "more than was asked for" in broken(STRUCTURED, STATUS, wire=head)


def test_extents_beyond_what_was_asked_for_are_left_out() -> None:
    wire = status_chunk((4096, 0), (8192, 3), (512, 0), (0, 0))
    assert only_reply(STRUCTURED, STATUS, wire).extents == [(4096, 0), (8192, 3)]


@pytest.mark.parametrize(
    ("ask", "one"),
    [
        (READ, chunk(ReplyType.NONE, flags=0)),
        (READ, error_chunk(5, b"again", flags=0)),
        (FLUSH, chunk(ReplyType.NONE, flags=0)),
        (STATUS, chunk(p.REPLY_ERROR + 77, p.CHUNK_ERROR.pack(5, 0), flags=0)),
    ],
)
def test_chunks_that_bring_nothing_without_end(ask: Ask, one: bytes) -> None:
    hold(STRUCTURED, [ask], one * MAX_EMPTY, ())
    assert "chunks without data" in hold(STRUCTURED, [ask], one * (MAX_EMPTY + 1), ()).error


def test_block_status_comes_once() -> None:
    wire = status_chunk((8192, 0), flags=0) + status_chunk((8192, 0))
    assert "block status twice" in broken(STRUCTURED, STATUS, wire=wire)


# ---------------------------------------------------------------- progress


def progress(wire: bytes, *asks: Ask, start: bytes = STRUCTURED) -> int:
    """How much of an answer our client sees in what a server sends."""
    client = Client("disk")
    feed(client, start)
    for ask in asks:
        client.request(ask[0], 0, *ask[1:])
    before = client.progress
    feed(client, wire, repeat(1000))
    return client.progress - before


LONG = (Kind.READ, 0, 4 * STEP)


def test_a_reply_is_progress() -> None:
    assert progress(simple() + simple(cookie=1), FLUSH, FLUSH) == 2


@pytest.mark.parametrize("start", [SIMPLE, STRUCTURED])
def test_a_part_of_a_long_answer_is_progress(start: bytes) -> None:
    whole = simple(data=bytes(4 * STEP)) if start == SIMPLE else data_chunk(0, bytes(4 * STEP))
    assert progress(whole[: 3 * STEP], LONG, start=start) == 2
    assert progress(whole, LONG, start=start) == 5


@pytest.mark.parametrize(
    "wire",
    [
        chunk(ReplyType.NONE, flags=0) * 1000,
        error_chunk(5, b"m" * 4096, flags=0) * 1000,
        chunk(ReplyType.ERROR, p.CHUNK_ERROR.pack(5, 0) + bytes(STEP - 6), flags=0)[:-1],
        b"".join(data_chunk(at, b"x", flags=0) for at in range(1000)),
        hole_chunk(0, STEP - 1, flags=0),
    ],
)
def test_bytes_that_answer_nothing_are_none(wire: bytes) -> None:
    assert progress(wire, LONG) == 0


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
