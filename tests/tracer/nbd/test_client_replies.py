"""The client's requests, and simple replies to them, good and bad. No socket."""

import errno
from itertools import repeat

import pytest

from tests.kit.machines import drain, feed
from tests.tracer.nbd.server_side import (
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
    hold,
    only_reply,
    simple,
)
from tracer.nbd import protocol as p
from tracer.nbd.client import Client, Reply
from tracer.nbd.inbox import CAPACITY
from tracer.nbd.protocol import ReplyType
from tracer.op import Kind

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
    assert "a simple reply, not a structured one" in broken(STRUCTURED, ask, wire=simple(error))
