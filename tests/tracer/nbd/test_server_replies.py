"""What the server says when its owner replies to a request. No socket."""

import errno
import struct

import pytest

from tests.kit.machines import drain, feed
from tests.tracer.nbd.client_side import EXPORT, FULL, PLAIN, chunk, request, simple
from tracer.nbd import protocol as p
from tracer.nbd.server import META_CONTEXT, Server
from tracer.op import Flag, Kind


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
