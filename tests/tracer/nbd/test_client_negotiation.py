"""The client negotiates: what it asks for, what it takes, and what it refuses. No socket."""

import pytest

from tests.kit.machines import drain, feed
from tests.tracer.nbd.server_side import (
    FLAGS,
    GOES,
    HAS_CONTEXT,
    HAS_STRUCTURED,
    NO_STRUCTURED,
    SIMPLE,
    SIZE,
    STRUCTURED,
    block_sizes,
    broken,
    converse,
    export_info,
    hello,
    hold,
    rep,
)
from tracer.errors import NbdError, TlsError
from tracer.nbd import protocol as p
from tracer.nbd.client import Client
from tracer.nbd.protocol import Info, Option, Rep


def option(number: int, data: bytes = b"") -> bytes:
    return p.OPTION.pack(p.IHAVEOPT, number, len(data)) + data


NAME = p.U32.pack(4) + b"disk"


WANTED = p.U16.pack(2) + p.U16.pack(Info.BLOCK_SIZE) + p.U16.pack(Info.DESCRIPTION)


ASKS_GO = option(Option.GO, NAME + WANTED)


ASKS_CONTEXT = option(
    Option.SET_META_CONTEXT, NAME + p.U32.pack(1) + p.U32.pack(15) + b"base:allocation"
)


def test_a_modern_server() -> None:
    outcome = converse(STRUCTURED)
    assert outcome.export == p.Export(SIZE, FLAGS, name="disk")
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
    assert outcome.export == p.Export(SIZE, FLAGS, name="disk")
    assert outcome.said.endswith(ASKS_GO + option(Option.EXPORT_NAME, b"disk"))


def test_block_sizes_are_taken_over() -> None:
    sizes = block_sizes(512, 65536, 1 << 20)
    outcome = converse(hello() + NO_STRUCTURED + sizes + GOES)
    assert outcome.export == p.Export(SIZE, FLAGS, p.BlockSizes(512, 65536, 1 << 20), "disk")


def test_a_maximum_above_what_we_ever_send_is_lowered() -> None:
    outcome = converse(hello() + NO_STRUCTURED + block_sizes(1, 4096, (1 << 32) - 1) + GOES)
    assert outcome.export is not None
    assert outcome.export.sizes.maximum == p.MAX_PAYLOAD


@pytest.mark.parametrize("minimum", [0, 3, 513, 131072])
def test_an_absurd_minimum_block_size(minimum: int) -> None:
    assert "minimum block size" in broken(
        hello() + NO_STRUCTURED + block_sizes(minimum, 1, 1) + GOES
    )


def sizes(minimum: int, preferred: int, maximum: int) -> tuple[p.BlockSizes | None, str]:
    """The block sizes that we take, and what we say about them."""
    client = Client("disk")
    feed(client, hello() + NO_STRUCTURED + block_sizes(minimum, preferred, maximum) + GOES)
    assert client.export is not None
    return client.export.sizes, client.note


@pytest.mark.parametrize("offer", [(1, 512, 512), (512, 4096, 1 << 20), (65536, 65536, 1 << 25)])
def test_block_sizes_that_are_allowed_need_no_word(offer: tuple[int, int, int]) -> None:
    assert sizes(*offer) == (p.BlockSizes(*offer), "")


def test_no_maximum_is_no_odd_maximum() -> None:
    assert sizes(4096, 4096, p.NO_MAXIMUM) == (p.BlockSizes(4096, 4096, p.MAX_PAYLOAD), "")


def test_a_maximum_that_is_no_multiple_of_the_minimum_is_rounded_down() -> None:
    taken, note = sizes(4096, 4096, 10_000)
    assert taken == p.BlockSizes(4096, 4096, 8192)
    assert note == (
        "the server has odd block sizes: a maximum of 10000, no multiple of its minimum: using 8192"
    )


@pytest.mark.parametrize(
    ("offer", "preferred"),
    [
        ((4096, 512, 1 << 20), 4096),
        ((1, 0, 1 << 20), 4096),
        ((1, 1, 1 << 20), 4096),
        ((1, 1000, 600), 512),
        ((65536, 0, 1 << 20), 65536),
    ],
)
def test_a_preferred_size_that_is_not_allowed(offer: tuple[int, int, int], preferred: int) -> None:
    taken, note = sizes(*offer)
    assert taken == p.BlockSizes(offer[0], preferred, offer[2])
    assert note.endswith(f"a preferred size of {offer[1]}: using {preferred}")


@pytest.mark.parametrize(
    ("offer", "why"),
    [
        ((1, 512, 0), "0 bytes at most in a request, and must take 512"),
        ((1, 512, 1), "1 bytes at most in a request, and must take 512"),
        ((4096, 4096, 512), "512 bytes at most in a request, and must take 4096"),
    ],
)
def test_a_maximum_with_which_nothing_can_be_done(offer: tuple[int, int, int], why: str) -> None:
    assert why in broken(hello() + NO_STRUCTURED + block_sizes(*offer) + GOES)


def test_a_small_disk_may_have_a_small_maximum() -> None:
    wire = block_sizes(1, 512, 100) + export_info(size=100) + rep(Option.GO, Rep.ACK)
    assert converse(hello() + NO_STRUCTURED + wire).export == p.Export(
        100, FLAGS, p.BlockSizes(1, 512, 100), name="disk"
    )


@pytest.mark.parametrize("body", [b"", p.U16.pack(99), p.U16.pack(Info.NAME) + bytes(60_000)])
def test_replies_to_an_option_without_end(body: bytes) -> None:
    wire = hello() + NO_STRUCTURED + rep(Option.GO, Rep.INFO, body) * (70 if body[2:] else 10_001)
    assert "replies or 4 MiB in answer to GO" in hold(wire, [], b"", ()).error


def test_a_list_without_end() -> None:
    client = Client()
    one = rep(Option.LIST, Rep.SERVER, p.U32.pack(1) + b"x")
    with pytest.raises(NbdError, match="in answer to LIST"):
        feed(client, hello() + NO_STRUCTURED + rep(Option.GO, Rep.ERR_UNKNOWN) + one * 10_001)


def test_information_that_is_not_known_is_passed_over() -> None:
    more = rep(Option.GO, Rep.INFO, p.U16.pack(99) + b"what?") + rep(Option.GO, Rep.INFO, b"")
    assert converse(hello() + NO_STRUCTURED + more + GOES).export == p.Export(
        SIZE, FLAGS, name="disk"
    )


def test_a_server_that_does_not_tell_the_size() -> None:
    wire = hello() + NO_STRUCTURED + rep(Option.GO, Rep.ACK)
    assert broken(wire) == "server did not send the export's size"


@pytest.mark.parametrize(
    ("kind", "message", "reason"),
    [
        (Rep.ERR_UNKNOWN, b"no such disk", "no such disk"),
        (Rep.ERR_UNKNOWN, b"", "ERR_UNKNOWN"),
        (Rep.ERR_TLS_REQD, b"", "ERR_TLS_REQD (write nbds:// or nbds+unix://)"),
        (Rep.ERR_TLS_REQD, b"no TLS", "no TLS (write nbds:// or nbds+unix://)"),
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


# ---------------------------------------------------------------- names


def asks_go(name: bytes) -> bytes:
    return option(Option.GO, p.U32.pack(len(name)) + name + WANTED)


def listing(*names: bytes) -> bytes:
    said = (p.U32.pack(len(name)) + name + b" and its description" for name in names)
    replies = b"".join(rep(Option.LIST, Rep.SERVER, body) for body in said)
    return replies + rep(Option.LIST, Rep.ACK)


REFUSES = rep(Option.GO, Rep.ERR_UNKNOWN, b"no such export")


def unnamed(wire: bytes) -> tuple[Client, bytes]:
    """A client that asks for no name, and what it said."""
    client = Client()
    feed(client, hello() + NO_STRUCTURED + wire, [1] * 1000)
    return client, drain(client)


def test_the_only_export_of_a_server_that_has_no_default() -> None:
    client, said = unnamed(REFUSES + listing(b"disk") + GOES)
    assert client.export == p.Export(SIZE, FLAGS, name="disk")
    assert said.endswith(asks_go(b"") + option(Option.LIST) + asks_go(b"disk"))


def test_block_status_is_asked_for_again_under_the_name() -> None:
    client = Client()
    refuses_context = rep(Option.SET_META_CONTEXT, Rep.ERR_UNKNOWN)
    start = hello() + HAS_STRUCTURED + refuses_context + REFUSES + listing(b"disk")
    feed(client, start + HAS_CONTEXT + GOES)
    assert client.meta_context
    assert drain(client).endswith(ASKS_CONTEXT + asks_go(b"disk"))


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ((b"a", b"\xc3\xbc\n"), r"name one of 'a', 'ü\\n'$"),
        ([b"n%d" % i for i in range(12)], r"name one of 'n0', 'n1', 'n10', .*, 'n7' and 2 more$"),
    ],
)
def test_several_exports_and_none_of_them_the_default(names: list[bytes], shown: str) -> None:
    with pytest.raises(NbdError, match=shown):
        unnamed(REFUSES + listing(*names))


@pytest.mark.parametrize("answer", [listing(), listing(b""), rep(Option.LIST, Rep.ERR_POLICY)])
def test_a_server_that_lists_nothing_better(answer: bytes) -> None:
    with pytest.raises(NbdError, match="it refuses the export '': no such export"):
        unnamed(REFUSES + answer + (REFUSES if answer == b"" else b""))


@pytest.mark.parametrize("names", [(), (b"",), (b"", b"other")])
def test_without_go_the_default_is_taken_if_there_may_be_one(names: tuple[bytes, ...]) -> None:
    unsupported = rep(Option.GO, Rep.ERR_UNSUP)
    client, said = unnamed(unsupported + listing(*names) + p.EXPORT.pack(SIZE, FLAGS))
    assert client.export == p.Export(SIZE, FLAGS)
    assert said.endswith(option(Option.LIST) + option(Option.EXPORT_NAME))


def test_without_go_the_only_export_is_taken_by_name() -> None:
    unsupported = rep(Option.GO, Rep.ERR_UNSUP)
    wire = unsupported + listing(b"disk") + unsupported + p.EXPORT.pack(SIZE, FLAGS)
    client, said = unnamed(wire)
    assert client.export == p.Export(SIZE, FLAGS, name="disk")
    assert said.endswith(option(Option.EXPORT_NAME, b"disk"))


def test_a_name_that_was_asked_for_is_never_replaced() -> None:
    wire = hello() + NO_STRUCTURED + rep(Option.GO, Rep.ERR_UNKNOWN)
    assert "it refuses the export 'disk'" in broken(wire)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\0\0",
        p.U32.pack(5) + b"disk",
        p.U32.pack(1) + b"\xff",
        p.U32.pack(4097) + bytes(4097),
    ],
)
def test_a_malformed_name_in_a_list(body: bytes) -> None:
    with pytest.raises(NbdError, match="malformed name"):
        unnamed(REFUSES + rep(Option.LIST, Rep.SERVER, body) + rep(Option.LIST, Rep.ACK))


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("a disk, für alle".encode(), "a disk, für alle"),
        (b"x" * 5000, "x" * 4096),
        (b"x" * 4095 + "ü".encode(), "x" * 4095),
        (b"\xffx", "x"),
    ],
)
def test_a_description_is_taken_over_up_to_its_longest(sent: bytes, kept: str) -> None:
    told = rep(Option.GO, Rep.INFO, p.U16.pack(Info.DESCRIPTION) + sent)
    export = converse(hello() + NO_STRUCTURED + told + GOES).export
    assert export is not None
    assert export.description == kept


# ---------------------------------------------------------------- TLS


def secure(wire: bytes) -> Client:
    client = Client("disk", tls=True)
    feed(client, wire, [1] * 1000)
    return client


def test_tls_is_asked_for_before_all_else() -> None:
    client = secure(hello())
    assert drain(client) == p.U32.pack(3) + option(Option.STARTTLS)
    assert client.cleartext is None
    feed(client, rep(Option.STARTTLS, Rep.ACK))
    assert client.cleartext == []
    assert drain(client) == option(Option.STRUCTURED_REPLY)


def test_what_was_not_sent_before_tls_stays_apart_from_what_comes_after() -> None:
    client = secure(hello() + rep(Option.STARTTLS, Rep.ACK))
    assert client.cleartext is not None
    assert b"".join(map(bytes, client.cleartext)) == p.U32.pack(3) + option(Option.STARTTLS)
    assert drain(client) == option(Option.STRUCTURED_REPLY)


@pytest.mark.parametrize("kind", [Rep.ERR_UNSUP, Rep.ERR_POLICY, Rep.ERR_INVALID])
def test_there_is_no_way_back_to_plain_text(kind: Rep) -> None:
    with pytest.raises(TlsError, match=f"the server refuses TLS: {kind.name}"):
        secure(hello() + rep(Option.STARTTLS, kind))


def test_what_follows_the_consent_to_tls_in_plain_text_is_an_attack() -> None:
    client = Client("disk", tls=True)
    with pytest.raises(TlsError, match="sent data between"):
        feed(client, hello() + rep(Option.STARTTLS, Rep.ACK) + HAS_STRUCTURED)
