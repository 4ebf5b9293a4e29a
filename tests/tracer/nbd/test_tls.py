"""TLS around a client and a server. No socket: bytes are carried by hand."""

import ssl
from collections.abc import Iterable, Iterator
from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.certificates import certificates, needs_psk, only_authority, pre_shared, revoke
from tests.kit.data import MIB, pattern
from tests.kit.machines import drain, feed
from tests.tracer.nbd.client_side import EXPORT, HELLO, option
from tracer.disk.credentials import client_context, secured, server_context
from tracer.errors import NbdError, TlsError
from tracer.nbd import tls as module
from tracer.nbd.client import Client, Reply
from tracer.nbd.protocol import Option
from tracer.nbd.server import Request, Server
from tracer.nbd.tls import ENCRYPT, Secured
from tracer.nbd.uri import Address, Tls
from tracer.op import Kind


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("tls") / "pki")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("tls") / "other")


class Pair:
    """A client and a server, each inside of TLS, and the wire between them."""

    def __init__(self, theirs: Tls, ours: Tls, host: str = "localhost") -> None:
        self.client = Client(tls=True)
        self.server = Server(EXPORT, tls=True)
        self.outer_client = secured(self.client, Address(host=host, tls=theirs))
        self.outer_server: Secured[Request] = Secured(
            self.server, server_context(ours), server_side=True
        )
        self.requests: list[Request] = []
        self.replies: list[Reply] = []
        self.wire = bytearray()

    def carry(self, sizes: Iterator[int] | None = None) -> None:
        """Carry bytes in both directions, in pieces of these sizes, until there are none."""
        sizes = sizes if sizes is not None else iter(lambda: 1 << 30, 0)
        while to_client := drain(self.outer_server):
            self.wire += to_client
            self.replies += feed(self.outer_client, to_client, sizes)
            to_server = drain(self.outer_client)
            self.wire += to_server
            self.requests += feed(self.outer_server, to_server, sizes)
        while to_server := drain(self.outer_client):
            self.wire += to_server
            self.requests += feed(self.outer_server, to_server, sizes)

    def fail(self) -> tuple[str, str]:
        """Carry bytes until both sides have given up; return why the client and the server did."""
        why = {"client": "", "server": ""}
        for _ in range(9):
            for name, sender, receiver in (
                ("client", self.outer_server, self.outer_client),
                ("server", self.outer_client, self.outer_server),
            ):
                try:
                    feed(receiver, b"" if why[name] else drain(sender))
                except TlsError as error:
                    why[name] = str(error)
        return why["client"], why["server"]


@pytest.mark.parametrize("sizes", [(1,), (7,), (4093,), (5, 16384, 3), (1 << 30,)])
def test_requests_and_replies_inside_of_tls(pki: Path, sizes: Iterable[int]) -> None:
    pair = Pair(Tls(str(pki)), Tls(str(pki), verify_peer=False))
    pieces = cycle(sizes)
    pair.carry(pieces)
    assert pair.server.negotiated
    assert pair.client.export is not None
    data = pattern(100_000)
    pair.client.request(Kind.WRITE, 0, 512, len(data), data)
    pair.client.request(Kind.READ, 0, 512, len(data))
    pair.carry(pieces)
    write, read = pair.requests
    assert write.data == data
    pair.server.reply(write)
    pair.server.reply_read(read, data)
    pair.carry(pieces)
    assert [(reply.error, reply.data) for reply in pair.replies] == [(0, None), (0, data)]
    # what is secret is not on the wire, and before TLS there is no more than its agreement
    assert data[:64] not in pair.wire
    assert b"base:allocation" not in pair.wire
    assert HELLO + option(Option.STARTTLS) in pair.wire


def test_a_connection_may_be_authenticated_on_both_sides(pki: Path) -> None:
    pair = Pair(Tls(str(pki)), Tls(str(pki)))
    pair.carry()
    assert pair.server.negotiated
    assert not pair.outer_server.shaking


def test_a_client_without_a_certificate(pki: Path, tmp_path: Path) -> None:
    alone = only_authority(tmp_path / "ca", pki)
    client, server = Pair(Tls(str(alone)), Tls(str(pki))).fail()
    assert server == "TLS failed: peer did not return a certificate"
    assert client == "the peer refuses TLS: certificate required"


def test_a_server_of_another_authority(pki: Path, other: Path) -> None:
    client, server = Pair(Tls(str(other)), Tls(str(pki), verify_peer=False)).fail()
    assert client.startswith("the peer's certificate is not valid: ")
    assert client.endswith(" (is its authority in ca-cert.pem?)")
    assert server == "the peer refuses TLS: unknown ca"


def test_the_systems_authorities_do_not_know_ours(pki: Path) -> None:
    client, _ = Pair(Tls(), Tls(str(pki), verify_peer=False)).fail()
    assert client.startswith("the peer's certificate is not valid: ")


def test_a_client_of_another_authority(pki: Path, other: Path) -> None:
    client, server = Pair(Tls(str(other), verify_peer=False), Tls(str(pki))).fail()
    assert server.startswith("the peer's certificate is not valid: ")
    assert client == "the peer refuses TLS: unknown ca"


def test_a_client_whose_certificate_is_revoked(tmp_path: Path) -> None:
    folder = certificates(tmp_path / "pki")
    revoke(folder, "client")
    client, server = Pair(Tls(str(folder)), Tls(str(folder))).fail()
    assert server == "the peer's certificate is not valid: certificate revoked"
    assert client == "the peer refuses TLS: certificate revoked"


@pytest.mark.parametrize("tls", [Tls(hostname="example.com"), Tls()])
def test_a_server_with_another_name(pki: Path, tls: Tls) -> None:
    theirs = Tls(str(pki), hostname=tls.hostname)
    host = "localhost" if tls.hostname else "10.1.2.3"
    client, server = Pair(theirs, Tls(str(pki), verify_peer=False), host).fail()
    assert "mismatch, certificate is not valid for" in client
    assert server.startswith("the peer refuses TLS: ")


@pytest.mark.parametrize(
    ("theirs", "host"),
    [
        (Tls(hostname="localhost"), "10.1.2.3"),  # the name that is looked for is another
        (Tls(), "127.0.0.1"),
        (Tls(), ""),  # a unix socket has no name
        (Tls(verify_peer=False), "10.1.2.3"),
    ],
)
def test_names_that_are_right_or_not_looked_for(pki: Path, theirs: Tls, host: str) -> None:
    tls = Tls(str(pki), hostname=theirs.hostname, verify_peer=theirs.verify_peer)
    pair = Pair(tls, Tls(str(pki), verify_peer=False), host)
    pair.carry()
    assert pair.server.negotiated


def test_a_name_that_no_certificate_has(pki: Path) -> None:
    with pytest.raises(TlsError, match="no certificate has the name"):
        Pair(Tls(str(pki), hostname=".x"), Tls(str(pki)))


@needs_psk
def test_a_pre_shared_key(tmp_path: Path) -> None:
    keys = str(pre_shared(tmp_path / "psk"))
    for user in ("alice", "bob"):
        pair = Pair(Tls(psk_file=keys, username=user), Tls(psk_file=keys))
        pair.carry()
        assert pair.server.negotiated


@needs_psk
@pytest.mark.parametrize("line", ["alice:ff", "eve:00112233445566778899aabbccddeeff"])
def test_a_wrong_key_and_an_unknown_user(tmp_path: Path, line: str) -> None:
    keys = str(pre_shared(tmp_path / "psk"))
    (tmp_path / "wrong").write_text(line)
    client, server = Pair(Tls(psk_file=str(tmp_path / "wrong")), Tls(psk_file=keys)).fail()
    assert client
    assert server


@needs_psk
def test_a_key_and_a_certificate_do_not_meet(pki: Path, tmp_path: Path) -> None:
    keys = str(pre_shared(tmp_path / "psk"))
    client, server = Pair(Tls(str(pki)), Tls(psk_file=keys)).fail()
    assert client
    assert "no shared cipher" in server


def begun(pki: Path) -> Pair:
    """A pair whose negotiation is over."""
    pair = Pair(Tls(str(pki)), Tls(str(pki), verify_peer=False))
    pair.carry()
    pair.requests.clear()
    return pair


def test_only_so_much_is_encrypted_ahead(pki: Path) -> None:
    pair = begun(pki)
    size = 8 * ENCRYPT
    cookie = pair.client.request(Kind.READ, 0, 0, size)
    drain(pair.outer_client)
    pair.server.reply_read(Request(cookie, Kind.READ, 0, 0, size), pattern(size))
    for _ in range(3):
        waits = sum(map(len, pair.outer_server.outgoing))
        assert ENCRYPT <= waits <= ENCRYPT + 64 * 1024
        assert sum(map(len, pair.server.outgoing)) >= size - ENCRYPT - 16 * 1024
    pair.carry()
    (reply,) = pair.replies
    assert reply.data == pattern(size)


def test_many_small_replies_share_records(pki: Path) -> None:
    pair = begun(pki)
    for cookie in range(1000):
        pair.server.reply(Request(cookie, Kind.FLUSH, 0, 0, 0))
    assert sum(map(len, pair.outer_server.outgoing)) < 1000 * 16 + 200


def test_a_peer_that_does_not_read_what_tls_says(
    pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_UNREAD", 100)
    pair = Pair(Tls(str(pki)), Tls(str(pki), verify_peer=False))
    feed(pair.outer_client, drain(pair.outer_server))
    feed(pair.outer_server, drain(pair.outer_client))
    feed(pair.outer_client, drain(pair.outer_server))
    with pytest.raises(TlsError, match="does not read"):
        feed(pair.outer_server, drain(pair.outer_client))


def test_the_end_of_tls_is_the_end_of_what_a_peer_may_say(pki: Path) -> None:
    pair = begun(pki)
    pair.client.request(Kind.FLUSH, 0, 0, 0)
    last = drain(pair.outer_client)
    with pytest.raises(ssl.SSLWantReadError):  # it waits for the other side's goodbye
        pair.outer_client._tls.unwrap()
    goodbye = pair.outer_client._to_peer.read()
    assert [one.kind for one in feed(pair.outer_server, last + goodbye)] == [Kind.FLUSH]
    with pytest.raises(TlsError, match="after it had ended TLS"):
        feed(pair.outer_server, b"more")


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(100), HELLO + option(7)])
def test_what_is_no_tls(pki: Path, garbage: bytes) -> None:
    pair = Pair(Tls(str(pki)), Tls(str(pki), verify_peer=False))
    feed(pair.outer_client, drain(pair.outer_server))
    feed(pair.outer_server, drain(pair.outer_client))
    assert pair.outer_server.shaking
    drain(pair.outer_server)
    with pytest.raises(TlsError, match="TLS failed: "):
        feed(pair.outer_server, garbage)


def test_plain_requests_inside_of_tls_that_are_nonsense(pki: Path) -> None:
    pair = begun(pki)
    pair.client.outgoing.append(b"\xff" * 28)
    with pytest.raises(NbdError, match="where a request should start"):
        pair.carry()


@given(at=st.integers(0, 1 << 20), value=st.integers(1, 255), talk=st.booleans())
def test_a_changed_byte_is_found(pki: Path, at: int, value: int, talk: bool) -> None:
    """Nothing but an NbdError comes of it, and no request that was not made."""
    pair = begun(pki) if talk else Pair(Tls(str(pki)), Tls(str(pki), verify_peer=False))
    if talk:
        pair.client.request(Kind.FLUSH, 0, 0, 0)
    else:
        feed(pair.outer_client, drain(pair.outer_server))
        feed(pair.outer_server, drain(pair.outer_client))
        feed(pair.outer_client, drain(pair.outer_server))
    sent = bytearray(drain(pair.outer_client))
    sent[at % len(sent)] ^= value
    try:
        found = feed(pair.outer_server, bytes(sent))
        found += feed(pair.outer_server, b"")
    except NbdError:
        return
    assert not found  # the record's length was changed: it waits for more


def test_nothing_is_allowed_that_is_older_than_tls_1_2(pki: Path) -> None:
    for context in (client_context(Tls(str(pki))), server_context(Tls(str(pki)))):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_RENEGOTIATION


def test_megabytes_both_ways(pki: Path) -> None:
    pair = begun(pki)
    data = pattern(MIB)
    for _ in range(3):
        pair.client.request(Kind.WRITE, 0, 0, MIB, memoryview(data))
    pair.carry(cycle((65536, 100_000)))
    assert [request.data for request in pair.requests] == [data] * 3
