"""The server takes requests, and refuses those that break the rules. No socket."""

import errno
import struct
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracer.nbd.client_side import (
    ALL,
    EXPORT,
    FULL,
    PLAIN,
    SIZE,
    STRUCTURED,
    after,
    hold,
    request,
    simple,
)
from tracer.nbd import protocol as p
from tracer.nbd.inbox import CAPACITY
from tracer.nbd.protocol import TransmissionFlag
from tracer.nbd.server import Request
from tracer.op import Flag, Kind

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
