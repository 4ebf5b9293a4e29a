"""The server's state machine, fed with bytes. No socket.

Every conversation is held whole, byte by byte, in odd pieces, and with the start of one more message
behind it: what comes of it must be the same.
"""

import errno
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.machines import drain, feed
from tracer.errors import NbdError
from tracer.nbd import protocol as p
from tracer.nbd.inbox import CAPACITY
from tracer.nbd.protocol import Info, Option, Rep, TransmissionFlag
from tracer.nbd.server import META_CONTEXT, Request, Server
from tracer.op import Flag, Kind

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
    [Option.STARTTLS, Option.PEEK_EXPORT, Option.EXTENDED_HEADERS, 0, 99, (1 << 32) - 1],
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


# ---------------------------------------------------------------- metadata contexts


WANTS_STRUCTURED = option(Option.STRUCTURED_REPLY)


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


# ---------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("kind", "offset", "length", "flags"),
    [
        (Kind.READ, 0, 512, 0),
        (Kind.READ, SIZE - 1, 1, Flag.FUA),
        (Kind.READ, 0, SIZE, Flag.DF),
        (Kind.FLUSH, 0, 0, 0),
        (Kind.FLUSH, 0, 0, Flag.FUA),
        (Kind.TRIM, 512, 1024, Flag.FUA),
        (Kind.TRIM, 0, SIZE, 0),
        (Kind.CACHE, 4096, 4096, 0),
        (Kind.ZERO, 0, SIZE, Flag.FUA | Flag.NO_HOLE | Flag.FAST_ZERO),
        (Kind.BLOCK_STATUS, 0, SIZE, 0),
        (Kind.BLOCK_STATUS, 0, 512, Flag.REQ_ONE | Flag.FUA),
    ],
)
def test_requests_without_data(kind: int, offset: int, length: int, flags: int) -> None:
    outcome = after(FULL, request(kind, offset, length, flags))
    assert outcome.requests == [Request(7, kind, flags, offset, length)]
    assert outcome.said == b""


@pytest.mark.parametrize("flags", [0, Flag.FUA])
def test_a_write_brings_its_data(flags: int) -> None:
    data = bytes(range(256)) * 4
    outcome = after(PLAIN, request(Kind.WRITE, 512, 1024, flags) + data)
    assert outcome.requests == [Request(7, Kind.WRITE, flags, 512, 1024, data)]


def test_a_burst_of_requests_comes_in_order() -> None:
    data = b"".join(
        request(Kind.WRITE, at * 512, 512, cookie=at) + bytes([at]) * 512 for at in range(20)
    )
    outcome = after(PLAIN, data + request(Kind.READ, 0, 512, cookie=99))
    assert [one.cookie for one in outcome.requests] == [*range(20), 99]
    assert [one.data for one in outcome.requests[:20]] == [bytes([at]) * 512 for at in range(20)]


@given(
    st.lists(st.integers(1, 4000), min_size=1, max_size=8),
    st.lists(st.integers(1, 3000), max_size=20),
)
def test_writes_split_anywhere(lengths: list[int], sizes: list[int]) -> None:
    pieces = [bytes([1 + at]) * length for at, length in enumerate(lengths)]
    data = b"".join(request(Kind.WRITE, 0, len(piece)) + piece for piece in pieces)
    assert [one.data for one in hold(EXPORT, FULL + data, sizes).requests] == pieces


@pytest.mark.parametrize("length", [0, 1, 511])
def test_a_burst_larger_than_the_receive_buffer(length: int) -> None:
    """Its end falls within a request, which the next receive completes."""
    kind, payload = (Kind.WRITE, b"x" * length) if length else (Kind.READ, b"")
    count = 2 * CAPACITY // (p.REQUEST.size + length)
    wire = b"".join(request(kind, at, length or 1, cookie=at) + payload for at in range(count))
    outcome = hold(EXPORT, PLAIN + wire, ())
    assert [one.cookie for one in outcome.requests] == list(range(count))
    assert {one.data for one in outcome.requests} == {payload if length else None}


def test_a_write_larger_than_the_receive_buffer() -> None:
    size = 5 << 20
    data = bytes(range(256)) * (size // 256)
    wire = PLAIN + request(Kind.WRITE, 0, size) + data + request(Kind.FLUSH)
    outcome = hold(p.Export(size, ALL), wire, repeat(100_003))
    assert [one.kind for one in outcome.requests] == [Kind.WRITE, Kind.FLUSH]
    assert outcome.requests[0].data == data


def test_the_largest_write() -> None:
    export = p.Export(p.MAX_PAYLOAD, ALL)
    data = bytes(p.MAX_PAYLOAD)
    outcome = hold(export, PLAIN + request(Kind.WRITE, 0, len(data)) + data, ())
    assert outcome.refused == 0
    assert outcome.requests[0].length == p.MAX_PAYLOAD


def test_goodbye_ends_the_connection_without_a_reply() -> None:
    outcome = after(PLAIN, request(Kind.FLUSH) + request(p.DISC) + request(Kind.FLUSH))
    assert outcome.finished
    assert [one.kind for one in outcome.requests] == [Kind.FLUSH]
    assert outcome.said == b""


# ---------------------------------------------------------------- refusals


def refusal(wire: bytes, start: bytes = PLAIN, export: p.Export = EXPORT) -> int:
    """The errno with which a request is refused, while the one behind it is not."""
    outcome = after(start, wire + request(Kind.READ, 0, 512, cookie=8), export)
    assert [one.cookie for one in outcome.requests] == [8]
    assert outcome.refused == 1
    magic = struct.unpack_from(">I", outcome.said)[0]
    if magic == p.STRUCTURED_REPLY_MAGIC:
        assert outcome.said[: p.CHUNK.size] == p.CHUNK.pack(
            magic, p.REPLY_DONE, p.ReplyType.ERROR, 7, 6
        )
        error, message = p.CHUNK_ERROR.unpack(outcome.said[p.CHUNK.size :])
        assert message == 0
        return int(error)
    _, error, cookie = p.SIMPLE_REPLY.unpack(outcome.said)
    assert cookie == 7
    return int(error)


@pytest.mark.parametrize("kind", [8, 64, 255, 65535])
def test_unknown_commands(kind: int) -> None:
    assert refusal(request(kind, 0, 512)) == errno.EINVAL


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        (Kind.READ, Flag.NO_HOLE),
        (Kind.READ, Flag.REQ_ONE),
        (Kind.WRITE, Flag.DF),
        (Kind.TRIM, Flag.NO_HOLE),
        (Kind.TRIM, Flag.FAST_ZERO),
        (Kind.CACHE, Flag.DF),
        (Kind.ZERO, Flag.REQ_ONE),
        (Kind.BLOCK_STATUS, Flag.DF),
        (Kind.READ, 1 << 5),
        (Kind.ZERO, 1 << 15),
    ],
)
def test_flags_that_a_command_may_not_carry(kind: int, flags: int) -> None:
    data = bytes(512) if kind == Kind.WRITE else b""
    assert refusal(request(kind, 0, 512, flags) + data, FULL) == errno.EINVAL


@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.TRIM, Kind.ZERO, Kind.READ])
def test_fua_where_it_was_not_offered(kind: int) -> None:
    data = bytes(512) if kind == Kind.WRITE else b""
    export = p.Export(SIZE, ALL & ~TransmissionFlag.SEND_FUA)
    assert refusal(request(kind, 0, 512, Flag.FUA) + data, PLAIN, export) == errno.EINVAL


def test_fast_zero_where_it_was_not_offered() -> None:
    export = p.Export(SIZE, ALL & ~TransmissionFlag.SEND_FAST_ZERO)
    wire = request(Kind.ZERO, 0, 512, Flag.FAST_ZERO)
    assert refusal(wire, PLAIN, export) == errno.EINVAL


@pytest.mark.parametrize(
    ("kind", "offer"),
    [
        (Kind.FLUSH, TransmissionFlag.SEND_FLUSH),
        (Kind.TRIM, TransmissionFlag.SEND_TRIM),
        (Kind.CACHE, TransmissionFlag.SEND_CACHE),
        (Kind.ZERO, TransmissionFlag.SEND_WRITE_ZEROES),
    ],
)
def test_commands_that_were_not_offered(kind: int, offer: int) -> None:
    length = 0 if kind == Kind.FLUSH else 512
    export = p.Export(SIZE, ALL & ~offer)
    assert refusal(request(kind, 0, length), PLAIN, export) == errno.EINVAL


@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.TRIM, Kind.ZERO])
def test_changes_to_a_read_only_disk(kind: int) -> None:
    export = p.Export(SIZE, ALL | TransmissionFlag.READ_ONLY)
    data = bytes(512) if kind == Kind.WRITE else b""
    assert refusal(request(kind, 0, 512) + data, PLAIN, export) == errno.EPERM


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Kind.READ, errno.EINVAL),
        (Kind.CACHE, errno.EINVAL),
        (Kind.BLOCK_STATUS, errno.EINVAL),
        (Kind.WRITE, errno.ENOSPC),
        (Kind.TRIM, errno.ENOSPC),
        (Kind.ZERO, errno.ENOSPC),
    ],
)
@pytest.mark.parametrize("offset", [SIZE - 511, SIZE, 1 << 40, (1 << 64) - 512, (1 << 64) - 1])
def test_out_of_bounds(kind: int, expected: int, offset: int) -> None:
    data = bytes(512) if kind == Kind.WRITE else b""
    assert refusal(request(kind, offset, 512) + data, FULL) == expected


@pytest.mark.parametrize(
    "kind",
    [
        Kind.READ,
        Kind.WRITE,
        Kind.TRIM,
        Kind.CACHE,
        Kind.ZERO,
        Kind.BLOCK_STATUS,
    ],
)
def test_a_length_of_zero(kind: int) -> None:
    assert refusal(request(kind, 512, 0), FULL) == errno.EINVAL


@pytest.mark.parametrize(("offset", "length"), [(0, 512), (512, 4096), (1, 4096), (0, 4097)])
def test_unaligned_requests(offset: int, length: int) -> None:
    export = p.Export(SIZE, ALL, p.BlockSizes(4096, 4096, p.MAX_PAYLOAD))
    wire = request(Kind.READ, offset, length)
    outcome = after(PLAIN, wire + request(Kind.READ, 0, 4096, cookie=8), export)
    assert [one.cookie for one in outcome.requests] == [8]
    assert outcome.said == simple(errno.EINVAL)


@pytest.mark.parametrize(("offset", "length"), [(1, 0), (0, 512)])
def test_a_flush_with_a_range(offset: int, length: int) -> None:
    assert refusal(request(Kind.FLUSH, offset, length)) == errno.EINVAL


def test_df_without_structured_replies() -> None:
    assert refusal(request(Kind.READ, 0, 512, Flag.DF), PLAIN) == errno.EINVAL


def test_block_status_without_a_context() -> None:
    assert refusal(request(Kind.BLOCK_STATUS, 0, 512), STRUCTURED) == errno.EINVAL


def test_a_read_that_is_too_large() -> None:
    export = p.Export(1 << 30, ALL)
    assert refusal(request(Kind.READ, 0, p.MAX_PAYLOAD + 1), FULL, export) == errno.EINVAL


@pytest.mark.parametrize("sizes", [(), tuple([65537] * 600)])
def test_a_write_that_is_too_large_is_read_to_its_end(sizes: tuple[int, ...]) -> None:
    export = p.Export(1 << 30, ALL)
    wire = request(Kind.WRITE, 0, p.MAX_PAYLOAD + 512) + request(p.DISC) * (
        (p.MAX_PAYLOAD + 512) // p.REQUEST.size
    )
    wire = wire.ljust(p.REQUEST.size + p.MAX_PAYLOAD + 512, b"\xff")
    outcome = hold(export, PLAIN + wire + request(Kind.READ, 0, 512, cookie=8), sizes)
    assert not outcome.finished  # nothing in the data was taken for a request
    assert [one.cookie for one in outcome.requests] == [8]
    assert outcome.said.endswith(simple(errno.EINVAL))


def test_a_refused_write_is_read_to_its_end() -> None:
    data = request(p.DISC) * 100
    wire = request(Kind.WRITE, SIZE, len(data)) + data
    assert refusal(wire) == errno.ENOSPC


# ---------------------------------------------------------------- replies


def reply(start: bytes, wire: bytes, how: str, *args: object) -> bytes:
    """What the server says when its owner replies to a request."""
    server = Server(EXPORT)
    (one,) = feed(server, start + wire)
    drain(server)
    getattr(server, how)(one, *args)
    return drain(server)


def test_success() -> None:
    wire = request(Kind.WRITE, 0, 4) + b"abcd"
    assert reply(PLAIN, wire, "reply") == simple()
    assert reply(FULL, wire, "reply") == simple()


def test_a_simple_read() -> None:
    assert reply(PLAIN, request(Kind.READ, 512, 4), "reply_read", b"abcd") == simple() + b"abcd"


def test_a_structured_read() -> None:
    said = reply(FULL, request(Kind.READ, 512, 4), "reply_read", b"abcd")
    assert said == chunk(p.ReplyType.OFFSET_DATA, p.U64.pack(512) + b"abcd")


@pytest.mark.parametrize("kind", [Kind.READ, Kind.BLOCK_STATUS])
def test_a_structured_error(kind: int) -> None:
    said = reply(FULL, request(kind, 0, 512), "reply_error", errno.EIO)
    assert said == chunk(p.ReplyType.ERROR, p.CHUNK_ERROR.pack(5, 0))


@pytest.mark.parametrize("start", [PLAIN, FULL])
def test_a_simple_error(start: bytes) -> None:
    wire = request(Kind.WRITE, 0, 4) + b"abcd"
    assert reply(start, wire, "reply_error", errno.ENOSPC) == simple(28)


@pytest.mark.parametrize(
    ("number", "wire"),
    [(errno.EPERM, 1), (errno.ENOTSUP, 95), (errno.ESHUTDOWN, 108), (errno.EOVERFLOW, 75)],
)
def test_errors_that_nbd_knows(number: int, wire: int) -> None:
    assert reply(PLAIN, request(Kind.FLUSH), "reply_error", number) == simple(wire)


@pytest.mark.parametrize("number", [errno.ENOTCONN, errno.EFBIG, errno.EROFS, 9999])
def test_other_errors_go_as_einval(number: int) -> None:
    assert reply(PLAIN, request(Kind.FLUSH), "reply_error", number) == simple(22)


def test_block_status() -> None:
    said = reply(FULL, request(Kind.BLOCK_STATUS, 0, 8192), "reply_status", [(4096, 3), (4096, 0)])
    body = p.U32.pack(META_CONTEXT) + struct.pack(">4I", 4096, 3, 4096, 0)
    assert said == chunk(p.ReplyType.BLOCK_STATUS, body)


def test_block_status_of_one_extent_never_exceeds_the_request() -> None:
    wire = request(Kind.BLOCK_STATUS, 0, 8192, Flag.REQ_ONE)
    for extents, length in (([(4096, 3), (4096, 0)], 4096), ([(1 << 20, 3)], 8192)):
        body = p.U32.pack(META_CONTEXT) + struct.pack(">2I", length, 3)
        assert reply(FULL, wire, "reply_status", extents) == chunk(p.ReplyType.BLOCK_STATUS, body)
