"""NBD URIs and --listen addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.errors import UsageError
from tracer.nbd.uri import DEFAULT_PORT, Address, is_uri, parse_listen, parse_uri

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


def test_without_a_port_it_is_the_registered_one() -> None:
    assert parse_uri("nbd://example").port == DEFAULT_PORT == 10809


@pytest.mark.parametrize(
    "uri",
    ["nbd+unix:///", "nbd+unix:///disk?sock=/x", "nbds://example", "nbd+vsock://1", "nbd://h:x/"],
)
def test_uris_that_are_refused_in_one_line(uri: str) -> None:
    assert is_uri(uri)
    with pytest.raises(UsageError) as caught:
        parse_uri(uri)
    assert uri in str(caught.value)
    assert "\n" not in str(caught.value)


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
