"""The server negotiates: options, metadata contexts, and what ends a connection. No socket."""

from collections.abc import Iterable
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.machines import drain, feed
from tests.tracer.nbd.client_side import (
    ALL,
    EVERY,
    EXPORT,
    FULL,
    HELLO,
    PLAIN,
    SIZE,
    STRUCTURED,
    Reply,
    after,
    ask,
    context,
    converse,
    hold,
    info,
    option,
    option_replies,
    refused,
    request,
)
from tracer.errors import TlsError
from tracer.nbd import protocol as p
from tracer.nbd.protocol import Info, Option, Rep, TransmissionFlag
from tracer.nbd.server import META_CONTEXT, Server
from tracer.op import Kind

# ---------------------------------------------------------------- negotiation


def test_it_speaks_first() -> None:
    assert drain(Server(EXPORT)) == p.HELLO.pack(p.NBDMAGIC, p.IHAVEOPT, 3)


def test_go_tells_size_flags_and_block_sizes() -> None:
    export = p.Export(SIZE, ALL, p.BlockSizes(512, 65536, 1 << 20))
    outcome = converse(PLAIN, export)
    assert outcome.negotiated
    assert option_replies(outcome.said) == [
        (Option.GO, Rep.INFO, p.INFO_BLOCK_SIZE.pack(Info.BLOCK_SIZE, 512, 65536, 1 << 20)),
        (Option.GO, Rep.INFO, p.INFO_EXPORT.pack(Info.EXPORT, SIZE, ALL)),
        (Option.GO, Rep.ACK, b""),
    ]


def test_info_tells_the_same_and_negotiation_goes_on() -> None:
    replies = ask(Option.INFO, info(wanted=[Info.BLOCK_SIZE]))
    assert [kind for _, kind, _ in replies] == [Rep.INFO, Rep.INFO, Rep.ACK]
    assert not converse(HELLO + option(Option.INFO, info())).negotiated
    assert converse(HELLO + option(Option.INFO, info()) + option(Option.GO, info())).negotiated


def test_the_name_is_told_where_asked_for() -> None:
    replies = ask(Option.INFO, info(wanted=[Info.NAME]))
    assert (Option.INFO, Rep.INFO, p.U16.pack(Info.NAME)) in replies
    assert (Option.INFO, Rep.INFO, p.U16.pack(Info.NAME)) not in ask(Option.INFO, info())


def test_unknown_information_types_are_ignored() -> None:
    assert ask(Option.INFO, info(wanted=[99, Info.DESCRIPTION])) == ask(Option.INFO, info())


@pytest.mark.parametrize("number", [Option.INFO, Option.GO])
def test_an_unknown_export_is_refused_and_another_try_is_possible(number: Option) -> None:
    assert ask(number, info(b"other")) == [(number, Rep.ERR_UNKNOWN, b"")]
    assert converse(HELLO + option(number, info(b"other")) + option(Option.GO, info())).negotiated


def test_export_name_without_padding() -> None:
    outcome = converse(HELLO + option(Option.EXPORT_NAME))
    assert outcome.negotiated
    assert outcome.said[p.HELLO.size :] == p.EXPORT.pack(SIZE, ALL)


def test_export_name_with_padding_for_clients_that_want_it() -> None:
    outcome = converse(p.U32.pack(1) + option(Option.EXPORT_NAME))
    assert outcome.said[p.HELLO.size :] == p.EXPORT.pack(SIZE, ALL) + bytes(124)


def test_export_name_of_an_unknown_export_ends_the_connection() -> None:
    outcome = converse(HELLO + option(Option.EXPORT_NAME, b"other"))
    assert outcome.finished
    assert not outcome.negotiated
    assert outcome.said == p.HELLO.pack(p.NBDMAGIC, p.IHAVEOPT, 3)


def test_list_names_the_default_export() -> None:
    assert ask(Option.LIST) == [
        (Option.LIST, Rep.SERVER, p.U32.pack(0)),
        (Option.LIST, Rep.ACK, b""),
    ]


def test_abort_is_acknowledged_and_ends_the_connection() -> None:
    outcome = converse(HELLO + option(Option.ABORT))
    assert outcome.finished
    assert option_replies(outcome.said) == [(Option.ABORT, Rep.ACK, b"")]


def test_structured_replies_are_granted_and_df_is_offered_with_them_alone() -> None:
    assert ask(Option.STRUCTURED_REPLY) == [(Option.STRUCTURED_REPLY, Rep.ACK, b"")]
    for start, df in ((PLAIN, 0), (STRUCTURED, TransmissionFlag.SEND_DF)):
        export = option_replies(converse(start).said)[-2]
        assert export[2] == p.INFO_EXPORT.pack(Info.EXPORT, SIZE, ALL | df)


@pytest.mark.parametrize(
    "number",
    [Option.PEEK_EXPORT, Option.EXTENDED_HEADERS, 0, 99, (1 << 32) - 1],
)
@pytest.mark.parametrize("data", [b"", b"some data"])
def test_other_options_are_unsupported_and_read_to_their_end(number: int, data: bytes) -> None:
    assert ask(number, data) == [(number, Rep.ERR_UNSUP, b"")]


@pytest.mark.parametrize(
    ("number", "data"),
    [
        (Option.LIST, b"x"),
        (Option.STRUCTURED_REPLY, b"x"),
        (Option.GO, b""),
        (Option.GO, info()[:-1]),
        (Option.GO, info() + b"x"),
        (Option.GO, info(wanted=[1])[:-1]),
        (Option.GO, info(wanted=[1]) + b"x"),
        (Option.GO, p.U32.pack(99) + info()[4:]),
        (Option.GO, info(b"n" * 4097)),
        (Option.INFO, p.U32.pack((1 << 32) - 1) + bytes(2)),
        (Option.SET_META_CONTEXT, b""),
        (Option.SET_META_CONTEXT, context(b"base:allocation")[:-1]),
        (Option.SET_META_CONTEXT, context(b"base:allocation") + b"x"),
        (Option.SET_META_CONTEXT, p.U32.pack(0) + p.U32.pack((1 << 32) - 1)),
        (Option.LIST_META_CONTEXT, p.U32.pack(0)),
        (Option.LIST_META_CONTEXT, context(b"q" * 4097)),
    ],
)
def test_malformed_option_data_is_invalid(number: int, data: bytes) -> None:
    before = option(Option.STRUCTURED_REPLY) if number >= Option.LIST_META_CONTEXT else b""
    assert ask(number, data, before) == [(number, Rep.ERR_INVALID, b"")]


@pytest.mark.parametrize("length", [p.MAX_OPTION + 1, 3 * p.MAX_OPTION])
def test_a_too_long_option_is_read_to_its_end_and_refused(length: int) -> None:
    data = HELLO + option(Option.GO, bytes(length)) + option(Option.ABORT)
    expected = [(Option.GO, Rep.ERR_TOO_BIG, b""), (Option.ABORT, Rep.ACK, b"")]
    assert option_replies(hold(EXPORT, data, ()).said) == expected
    assert option_replies(hold(EXPORT, data, repeat(4093)).said) == expected


def test_the_longest_option_that_is_looked_at() -> None:
    data = HELLO + option(99, bytes(p.MAX_OPTION))
    assert option_replies(hold(EXPORT, data, ()).said) == [(99, Rep.ERR_UNSUP, b"")]


# ---------------------------------------------------------------- names


WANTS_STRUCTURED = option(Option.STRUCTURED_REPLY)
NAMED = p.Export(SIZE, ALL, name="d\u00fcsk", description="a disk f\u00fcr alle")
NAME = NAMED.name.encode()


def ask_named(number: int, data: bytes = b"") -> list[Reply]:
    start = HELLO + WANTS_STRUCTURED
    skip = len(option_replies(converse(start, NAMED).said))
    return option_replies(converse(start + option(number, data), NAMED).said)[skip:]


def test_list_tells_name_and_description() -> None:
    assert ask_named(Option.LIST) == [
        (Option.LIST, Rep.SERVER, p.U32.pack(len(NAME)) + NAME + NAMED.description.encode()),
        (Option.LIST, Rep.ACK, b""),
    ]


@pytest.mark.parametrize("name", [b"", NAME])
def test_an_export_is_found_by_its_name_and_as_the_default(name: bytes) -> None:
    for number in (Option.INFO, Option.GO):
        replies = ask_named(number, info(name, [Info.NAME]))
        assert replies[0] == (number, Rep.INFO, p.U16.pack(Info.NAME) + NAME)
        assert replies[-1] == (number, Rep.ACK, b"")
    for number in (Option.LIST_META_CONTEXT, Option.SET_META_CONTEXT):
        replies = ask_named(number, context(p.BASE_ALLOCATION, name=name))
        assert [kind for _, kind, _ in replies] == [Rep.META_CONTEXT, Rep.ACK]
    assert converse(HELLO + option(Option.EXPORT_NAME, name), NAMED).negotiated


@pytest.mark.parametrize("name", [b"other", NAME[:-1], NAME + b"x"])
def test_no_other_name_is_served(name: bytes) -> None:
    for number in (Option.INFO, Option.GO):
        assert ask_named(number, info(name)) == [(number, Rep.ERR_UNKNOWN, b"")]
    for number in (Option.LIST_META_CONTEXT, Option.SET_META_CONTEXT):
        data = context(p.BASE_ALLOCATION, name=name)
        assert ask_named(number, data) == [(number, Rep.ERR_UNKNOWN, b"")]
    assert not converse(HELLO + option(Option.EXPORT_NAME, name), NAMED).negotiated


def test_the_description_is_told_where_asked_for() -> None:
    told = p.U16.pack(Info.DESCRIPTION) + NAMED.description.encode()
    asked = ask_named(Option.GO, info(wanted=[Info.DESCRIPTION]))
    assert (Option.GO, Rep.INFO, told) in asked
    assert len(asked) == len(ask_named(Option.GO, info())) + 1


# ---------------------------------------------------------------- TLS


def secure(data: bytes, sizes: Iterable[int] = ()) -> Server:
    server = Server(EXPORT, tls=True)
    feed(server, data, sizes)
    return server


def test_without_tls_starttls_is_refused_and_negotiation_goes_on() -> None:
    (reply,) = ask(Option.STARTTLS)
    assert reply[:2] == (Option.STARTTLS, Rep.ERR_POLICY)
    assert converse(HELLO + option(Option.STARTTLS) + option(Option.GO, info())).negotiated


@pytest.mark.parametrize(
    ("number", "data"),
    [
        (Option.LIST, b""),
        (Option.STRUCTURED_REPLY, b""),
        (Option.INFO, info()),
        (Option.GO, info()),
        (Option.GO, b"malformed"),
        (Option.SET_META_CONTEXT, context(p.BASE_ALLOCATION)),
        (99, b""),
    ],
)
def test_before_tls_nothing_is_told(number: int, data: bytes) -> None:
    server = secure(HELLO + option(number, data))
    ((echoed, kind, why),) = option_replies(drain(server))
    assert (echoed, kind) == (number, Rep.ERR_TLS_REQD)
    assert b"nbds://" in why
    assert not server.negotiated
    assert not server.structured


def test_before_tls_a_client_may_leave() -> None:
    server = secure(HELLO + option(Option.ABORT))
    assert option_replies(drain(server)) == [(Option.ABORT, Rep.ACK, b"")]
    assert server.finished


@pytest.mark.parametrize("name", [b"", b"other"])
def test_before_tls_an_old_client_is_cut_off(name: bytes) -> None:
    server = secure(HELLO + option(Option.EXPORT_NAME, name))
    assert server.finished
    assert not server.negotiated


@pytest.mark.parametrize("sizes", [(), repeat(1)])
def test_the_consent_to_tls_is_the_last_in_plain_text(sizes: Iterable[int]) -> None:
    server = secure(HELLO + option(Option.STARTTLS), sizes)
    assert server.cleartext is not None
    said = b"".join(map(bytes, server.cleartext))
    assert option_replies(said) == [(Option.STARTTLS, Rep.ACK, b"")]
    assert server.outgoing == []
    feed(server, option(Option.STARTTLS) + option(Option.GO, info()))
    kinds = [
        kind
        for _, kind, _ in option_replies(p.HELLO.pack(p.NBDMAGIC, p.IHAVEOPT, 3) + drain(server))
    ]
    assert kinds == [Rep.ERR_INVALID, Rep.INFO, Rep.INFO, Rep.ACK]
    assert server.negotiated


def test_starttls_has_no_data() -> None:
    server = secure(HELLO + option(Option.STARTTLS, b"x"))
    assert option_replies(drain(server)) == [(Option.STARTTLS, Rep.ERR_INVALID, b"")]
    assert server.cleartext is None


@pytest.mark.parametrize("behind", [option(Option.GO, info()), b"\x16", b"\0"])
def test_what_follows_starttls_in_plain_text_is_an_attack(behind: bytes) -> None:
    with pytest.raises(TlsError, match="sent data between"):
        secure(HELLO + option(Option.STARTTLS) + behind)


# ---------------------------------------------------------------- metadata contexts


@pytest.mark.parametrize("number", [Option.LIST_META_CONTEXT, Option.SET_META_CONTEXT])
def test_contexts_need_structured_replies_first(number: Option) -> None:
    assert ask(number, context(p.BASE_ALLOCATION)) == [(number, Rep.ERR_INVALID, b"")]


def test_base_allocation_can_be_set() -> None:
    assert ask(Option.SET_META_CONTEXT, context(p.BASE_ALLOCATION), WANTS_STRUCTURED) == [
        (Option.SET_META_CONTEXT, Rep.META_CONTEXT, p.U32.pack(META_CONTEXT) + p.BASE_ALLOCATION),
        (Option.SET_META_CONTEXT, Rep.ACK, b""),
    ]


@pytest.mark.parametrize("queries", [(), (b"base:",), (b"base:allocation",), (b"x:y", b"base:")])
def test_listing_contexts(queries: tuple[bytes, ...]) -> None:
    replies = ask(Option.LIST_META_CONTEXT, context(*queries), WANTS_STRUCTURED)
    assert [(kind, data[4:]) for _, kind, data in replies] == [
        (Rep.META_CONTEXT, p.BASE_ALLOCATION),
        (Rep.ACK, b""),
    ]


@pytest.mark.parametrize("query", [b"qemu:dirty-bitmap:b0", b"base:allocation2", b"base", b""])
@pytest.mark.parametrize("number", [Option.LIST_META_CONTEXT, Option.SET_META_CONTEXT])
def test_unknown_contexts_are_passed_over(number: Option, query: bytes) -> None:
    assert ask(number, context(query), WANTS_STRUCTURED) == [(number, Rep.ACK, b"")]


def test_a_wildcard_sets_nothing() -> None:
    assert ask(Option.SET_META_CONTEXT, context(b"base:"), WANTS_STRUCTURED) == [
        (Option.SET_META_CONTEXT, Rep.ACK, b"")
    ]


@pytest.mark.parametrize("number", [Option.LIST_META_CONTEXT, Option.SET_META_CONTEXT])
def test_contexts_of_an_unknown_export(number: Option) -> None:
    data = context(p.BASE_ALLOCATION, name=b"other")
    assert ask(number, data, WANTS_STRUCTURED) == [(number, Rep.ERR_UNKNOWN, b"")]


@pytest.mark.parametrize(
    "second", [context(), context(b"x:y"), context(p.BASE_ALLOCATION, name=b"n")]
)
def test_setting_contexts_again_replaces_them(second: bytes) -> None:
    start = HELLO + WANTS_STRUCTURED
    start += option(Option.SET_META_CONTEXT, context(p.BASE_ALLOCATION))
    start += option(Option.SET_META_CONTEXT, second) + option(Option.GO, info())
    assert after(start, request(Kind.BLOCK_STATUS, 0, 4096)).refused == 1


def test_listing_contexts_sets_none() -> None:
    start = HELLO + WANTS_STRUCTURED
    start += option(Option.LIST_META_CONTEXT, context()) + option(Option.GO, info())
    assert after(start, request(Kind.BLOCK_STATUS, 0, 4096)).refused == 1


# ---------------------------------------------------------------- what ends a connection


@pytest.mark.parametrize("flags", [4, 1 << 31, EVERY])
def test_unknown_handshake_flags(flags: int) -> None:
    assert "unknown handshake flags" in refused(p.U32.pack(flags))


def test_something_else_than_an_option() -> None:
    assert "where an option should start" in refused(HELLO + b"GET / HTTP/1.1\r\n")


def test_something_else_than_a_request() -> None:
    assert "where a request should start" in refused(PLAIN + bytes(28))


def test_a_bad_request_after_a_good_one() -> None:
    assert refused(PLAIN + request(Kind.FLUSH) + b"\xff" * 28)


@given(st.binary(max_size=300), st.sampled_from([b"", HELLO, PLAIN, FULL]))
def test_garbage_never_does_worse_than_end_the_connection(garbage: bytes, start: bytes) -> None:
    hold(EXPORT, start + garbage, ())  # NbdError is caught there, and nothing else is
