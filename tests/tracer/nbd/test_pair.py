"""Our client and our server, joined in memory: what one asks for, the other does."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.machines import drain, feed
from tracer.errors import NbdError
from tracer.nbd import protocol as p
from tracer.nbd.client import Client, Reply
from tracer.nbd.server import Request, Server
from tracer.op import Kind

SIZE = 20_000
FLAGS = int(
    p.TransmissionFlag.HAS_FLAGS
    | p.TransmissionFlag.SEND_FLUSH
    | p.TransmissionFlag.SEND_FUA
    | p.TransmissionFlag.SEND_TRIM
    | p.TransmissionFlag.SEND_WRITE_ZEROES
)
EXPORT = p.Export(SIZE, FLAGS, p.BlockSizes(1, 4096, p.MAX_PAYLOAD))


class Disk:
    """Carries requests out on a bytearray, and replies."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.data = bytearray(SIZE)

    def do(self, request: Request) -> None:
        piece = slice(request.offset, request.offset + request.length)
        if request.kind == Kind.READ:
            self.server.reply_read(request, bytes(self.data[piece]))
        elif request.kind == Kind.BLOCK_STATUS:
            self.server.reply_status(request, [(request.length, request.offset % 4)])
        else:
            if request.kind == Kind.WRITE:
                assert request.data is not None
                self.data[piece] = request.data
            elif request.kind in (Kind.ZERO, Kind.TRIM):
                self.data[piece] = bytes(request.length)
            self.server.reply(request)


def exchange(
    client: Client, server: Server, sizes: Iterator[int]
) -> tuple[list[Request], list[Reply]]:
    """Carry bytes to and fro until neither has anything to say."""
    requests: list[Request] = []
    replies: list[Reply] = []
    while client.outgoing or server.outgoing:
        requests += feed(server, drain(client), sizes)
        replies += feed(client, drain(server), sizes)
    return requests, replies


def pieces(data: st.DataObject) -> Iterator[int]:
    """Random sizes of reads from a socket, for ever."""
    some = data.draw(st.lists(st.integers(1, 5000), min_size=1, max_size=20))
    while True:
        yield from some


@dataclass(frozen=True)
class Ask:
    kind: int
    offset: int
    length: int
    fill: int


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    kind = draw(st.sampled_from([kind for kind in Kind if kind not in (Kind.START, Kind.CACHE)]))
    if kind == Kind.FLUSH:
        return Ask(kind, 0, 0, 0)
    offset = draw(st.integers(0, SIZE - 1))
    length = draw(st.integers(1, min(6000, SIZE - offset)))
    return Ask(kind, offset, length, draw(st.integers(1, 255)))


def test_they_agree_on_the_export_and_on_all_extensions() -> None:
    client, server = Client(), Server(EXPORT)
    exchange(client, server, iter(()))
    assert client.export == p.Export(SIZE, FLAGS | p.TransmissionFlag.SEND_DF, EXPORT.sizes)
    assert client.structured
    assert client.meta_context
    assert server.negotiated


def test_the_client_learns_why_it_is_refused() -> None:
    with pytest.raises(NbdError, match="refuses the export 'other': ERR_UNKNOWN"):
        exchange(Client("other"), Server(EXPORT), iter(()))


def test_goodbye_ends_it() -> None:
    client, server = Client(), Server(EXPORT)
    exchange(client, server, iter(()))
    client.disconnect()
    exchange(client, server, iter(()))
    assert server.finished


@given(st.lists(asks(), min_size=1, max_size=30), st.data())
def test_requests_and_replies_round_trip(todo: list[Ask], data: st.DataObject) -> None:
    """Any requests, in bursts, split anywhere, answered in any order."""
    client, server = Client(), Server(EXPORT)
    disk, model = Disk(server), bytearray(SIZE)
    sizes = pieces(data)
    exchange(client, server, sizes)
    for ask in todo:
        payload = bytes([ask.fill]) * ask.length if ask.kind == Kind.WRITE else None
        client.request(ask.kind, 0, ask.offset, ask.length, payload)
    requests, _ = exchange(client, server, sizes)
    assert [(one.kind, one.offset, one.length) for one in requests] == [
        (one.kind, one.offset, one.length) for one in todo
    ]
    expected = {}
    for cookie, ask in enumerate(todo):
        piece = slice(ask.offset, ask.offset + ask.length)
        if ask.kind == Kind.READ:
            expected[cookie] = Reply(cookie, 0, bytes(model[piece]))
        elif ask.kind == Kind.BLOCK_STATUS:
            expected[cookie] = Reply(cookie, 0, None, [(ask.length, ask.offset % 4)])
        else:
            expected[cookie] = Reply(cookie)
        if ask.kind == Kind.WRITE:
            model[piece] = bytes([ask.fill]) * ask.length
        elif ask.kind in (Kind.ZERO, Kind.TRIM):
            model[piece] = bytes(ask.length)
    # done in order, since they may overlap; the replies are then shuffled as whole messages
    said = []
    for request in requests:
        disk.do(request)
        said.append(drain(server))
    server.outgoing += data.draw(st.permutations(said))
    _, replies = exchange(client, server, sizes)
    assert {reply.cookie: reply for reply in replies} == expected
    assert disk.data == model


@given(st.lists(st.sampled_from([errno.EIO, errno.ENOSPC, 0]), min_size=1, max_size=20), st.data())
def test_errors_reach_the_request_that_failed(errors: list[int], data: st.DataObject) -> None:
    client, server = Client(), Server(EXPORT)
    disk, sizes = Disk(server), pieces(data)
    exchange(client, server, sizes)
    for at in range(len(errors)):
        kind = data.draw(st.sampled_from([Kind.READ, Kind.BLOCK_STATUS, Kind.TRIM]))
        client.request(kind, 0, at, 10)
    requests, _ = exchange(client, server, sizes)
    for request, error in zip(requests, errors, strict=True):
        if error:
            server.reply_error(request, error)
        else:
            disk.do(request)
    _, replies = exchange(client, server, sizes)
    assert [reply.error for reply in replies] == errors


@given(asks(), st.integers(1, 1 << 33))
def test_what_is_out_of_bounds_comes_back_as_an_error(ask: Ask, beyond: int) -> None:
    client, server = Client(), Server(EXPORT)
    exchange(client, server, iter(()))
    length = max(ask.length, 1)
    payload = bytes(length) if ask.kind == Kind.WRITE else None
    client.request(ask.kind, 0, SIZE - length + beyond, length, payload)
    requests, replies = exchange(client, server, iter(()))
    assert requests == []
    assert [reply.error != 0 for reply in replies] == [True]
