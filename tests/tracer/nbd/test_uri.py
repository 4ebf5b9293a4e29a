"""NBD URIs and --listen addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.errors import UsageError
from tracer.nbd.uri import (
    DEFAULT_PORT,
    Address,
    Tls,
    is_uri,
    parse_listen,
    parse_uri,
    served_tls,
)

text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("nbd://example", Address(host="example")),
        ("nbd://example/", Address(host="example")),
        ("nbd://example:1234/disk", Address("disk", host="example", port=1234)),
        ("nbd://[::1]:1234", Address(host="::1", port=1234)),
        ("nbd:///disk", Address("disk", host="localhost")),
        ("nbd+unix:///?socket=/tmp/s", Address(path="/tmp/s")),
        ("nbd+unix:///disk?socket=/tmp/s", Address("disk", path="/tmp/s")),
        ("nbd+unix:///a%20b?socket=/tmp/with%20space", Address("a b", path="/tmp/with space")),
        ("nbd://example//two", Address("/two", host="example")),
        ("NBD://Example", Address(host="example")),
        ("nbd+tcp://example:1", Address(host="example", port=1)),
        ("nbd://ex%61mple", Address(host="example")),
        ("nbd://[fe80::1%25eth0]:1234/x", Address("x", host="fe80::1%eth0", port=1234)),
        ("nbd://h/a%3Fb%23c%25d+e", Address("a?b#c%d+e", host="h")),
        ("nbd://h/%C3%BC", Address("ü", host="h")),
        ("nbd://user@h/", Address(host="h")),
        ("nbd://h?x-new=1", Address(host="h")),
        ("nbd+unix://?socket=s", Address(path="s")),
        ("nbd+unix:///?socket=a+b", Address(path="a+b")),
        ("nbd+unix:///?socket=%00abstract", Address(path="\0abstract")),
        ("nbd+unix:///?socket=/%FF", Address(path="/\udcff")),
        ("nbds://h", Address(host="h", tls=Tls())),
        ("nbds+tcp://h:1/x", Address("x", host="h", port=1, tls=Tls())),
        ("nbds://h?tls-certificates=/etc/pki", Address(host="h", tls=Tls("/etc/pki"))),
        ("nbds://h?tls-type=x509", Address(host="h", tls=Tls())),
        (
            "nbds+unix:///x?socket=s&tls-certificates=a%20b&tls-hostname=h&tls-verify-peer=0",
            Address("x", path="s", tls=Tls("a b", hostname="h", verify_peer=False)),
        ),
        (
            "nbds://alice@h/?tls-psk-file=keys.psk&tls-type=psk&tls-verify-peer=true",
            Address(host="h", tls=Tls(psk_file="keys.psk", username="alice")),
        ),
        (
            "nbds+unix://al%40ice@/?socket=s&tls-psk-file=k",
            Address(path="s", tls=Tls(psk_file="k", username="al@ice")),
        ),
        (
            "nbds://h/?tls-psk-file=k&tls-username=bob",
            Address(host="h", tls=Tls(psk_file="k", username="bob")),
        ),
    ],
)
def test_uris_that_are_understood(uri: str, address: Address) -> None:
    assert is_uri(uri)
    assert parse_uri(uri) == address


@given(text, text.filter(bool))
def test_a_unix_address_survives_its_uri(export: str, path: str) -> None:
    address = Address(export, path=path)
    assert parse_uri(address.uri()) == address


@given(text, st.sampled_from(["localhost", "10.0.0.1", "::1"]), st.integers(1, 65535))
def test_a_tcp_address_survives_its_uri(export: str, host: str, port: int) -> None:
    address = Address(export, host=host, port=port)
    assert parse_uri(address.uri()) == address


@given(
    text,
    st.sampled_from(["", "/tmp/s"]),
    st.builds(Tls, certificates=text, hostname=text, username=text, verify_peer=st.booleans())
    | st.builds(Tls, psk_file=text.filter(bool), username=text, verify_peer=st.booleans()),
)
def test_an_address_with_tls_survives_its_uri(export: str, path: str, tls: Tls) -> None:
    host = "" if path else "::1"
    address = Address(export, path=path, host=host, tls=tls)
    assert parse_uri(address.uri()) == address


def test_without_a_port_it_is_the_registered_one() -> None:
    assert parse_uri("nbd://example").port == DEFAULT_PORT == 10809


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("nbd+unix:///", "it names no socket: write nbd+unix:///?socket=PATH"),
        ("nbds+unix:///x", "it names no socket: write nbds+unix:///?socket=PATH"),
        ("nbd+unix:///disk?sock=/x", "unknown parameter sock; known are socket, tls-type"),
        ("nbd+unix:///?socket=a&socket=b", "socket stands there twice"),
        ("nbd+unix://host/?socket=a", "it has a host and is for a unix socket"),
        ("nbd://h/?socket=a", "socket= is for nbd+unix://"),
        ("nbds://h/?socket=a", "socket= is for nbds+unix://"),
        ("nbd+vsock://1", "nbd+vsock:// is not supported, only nbd, nbd+tcp, nbd+unix, nbds"),
        ("nbd+ssh://h/", "nbd+ssh:// is not supported"),
        ("nbd://h:x/", "Port could not be cast"),
        ("nbd://h:65536/", "Port out of range"),
        ("nbd://h:0/", "there is no port 0"),
        ("nbd://[::1/", "Invalid IPv6 URL"),
        ("nbd://[x]/", "does not appear to be an IPv4 or IPv6 address"),
        ("nbd://h/50%", "write a % that is meant as such as %25"),
        ("nbd://h/%zz", "write a % that is meant as such as %25"),
        ("nbd://h/%ff", "codec can't decode byte 0xff"),
        ("nbd://h/\udcff", "an export's name is UTF-8"),
        ("nbd://h/a%00b", "an export's name is UTF-8 without NUL"),
        ("nbd://h/" + "x" * 4097, "at most 4096 bytes"),
        ("nbd://h/disk#1", "write # as %23"),
        ("nbd://h/a b", "write spaces and control characters as %20"),
        ("nbd://h/a\nb", "write spaces and control characters as %20"),
        ("nbd://h/?tls-hostname=x", "tls-hostname is for nbds:// and nbds+unix://"),
        ("nbds://h/?tls-verify-peer=maybe", "tls-verify-peer is 0 or 1"),
        ("nbds://h/?tls-type=anon", "tls-type is x509 or psk"),
        ("nbds://h/?tls-type=psk", "give either tls-psk-file"),
        ("nbds://h/?tls-type=x509&tls-psk-file=a", "give either tls-psk-file"),
        ("nbds://h/?tls-certificates=a&tls-psk-file=b", "give either tls-psk-file"),
    ],
)
def test_uris_that_are_refused_in_one_line(uri: str, why: str) -> None:
    assert is_uri(uri)
    with pytest.raises(UsageError) as caught:
        parse_uri(uri)
    assert str(caught.value).startswith(f"{uri!r} is not an NBD URI: ")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "tls"),
    [
        ((None, None, False), None),
        (("dir", None, False), Tls("dir", verify_peer=False)),
        (("dir", None, True), Tls("dir")),
        ((None, "keys", False), Tls(psk_file="keys", verify_peer=False)),
    ],
)
def test_options_of_a_server_with_tls(
    options: tuple[str | None, str | None, bool], tls: Tls | None
) -> None:
    certificates, psk_file, verify_peer = options
    assert served_tls(certificates, psk_file, verify_peer=verify_peer) == tls


@pytest.mark.parametrize(
    "options", [("dir", "keys", False), (None, "keys", True), (None, None, True)]
)
def test_options_of_a_server_that_do_not_go_together(
    options: tuple[str | None, str | None, bool],
) -> None:
    certificates, psk_file, verify_peer = options
    with pytest.raises(UsageError, match="--tls-certificates"):
        served_tls(certificates, psk_file, verify_peer=verify_peer)


@pytest.mark.parametrize(
    "name", ["qcow2", "raw@/usr/bin", "/dev/sda", "x.toml", "http://x", "nbd:x"]
)
def test_what_is_no_uri(name: str) -> None:
    assert not is_uri(name)


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("unix:/tmp/s", Address(path="/tmp/s")),
        ("unix:relative:name", Address(path="relative:name")),
        ("tcp:127.0.0.1:0", Address(host="127.0.0.1", port=0)),
        ("tcp:localhost:10809", Address(host="localhost", port=10809)),
        ("tcp:[::1]:5", Address(host="::1", port=5)),
    ],
)
def test_listen_addresses(listen: str, address: Address) -> None:
    assert parse_listen(listen) == address


@pytest.mark.parametrize(
    "listen",
    ["", "unix:", "tcp:", "tcp:host", "tcp::5", "tcp:h:x", "tcp:h:-1", "tcp:h:65536", "/tmp/s"],
)
def test_listen_addresses_that_are_refused(listen: str) -> None:
    with pytest.raises(UsageError, match="write unix:PATH or tcp:HOST:PORT"):
        parse_listen(listen)
