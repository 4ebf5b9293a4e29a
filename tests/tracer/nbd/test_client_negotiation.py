"""The client negotiates: what it asks for, what it takes, and what it refuses. No socket."""

import pytest

from tests.kit.machines import drain, feed
from tests.tracer.nbd.server_side import (
    FLAGS,
    GOES,
    HAS_STRUCTURED,
    NO_STRUCTURED,
    SIMPLE,
    SIZE,
    STRUCTURED,
    block_sizes,
    broken,
    converse,
    hello,
    rep,
)
from tracer.nbd import protocol as p
from tracer.nbd.client import Client
from tracer.nbd.protocol import Info, Option, Rep


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
    assert broken(wire) == "server did not send the export's size"


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
