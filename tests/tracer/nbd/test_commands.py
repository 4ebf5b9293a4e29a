"""Ops in the commands that a server offers."""

import pytest

from tracer.errors import Undecidable
from tracer.nbd.commands import lower
from tracer.nbd.protocol import BlockSizes, Export, TransmissionFlag
from tracer.op import Flag, Kind

SIZE = 64 << 20
ALL = int(
    TransmissionFlag.HAS_FLAGS
    | TransmissionFlag.SEND_FLUSH
    | TransmissionFlag.SEND_FUA
    | TransmissionFlag.SEND_TRIM
    | TransmissionFlag.SEND_WRITE_ZEROES
    | TransmissionFlag.SEND_CACHE
    | TransmissionFlag.SEND_FAST_ZERO
)


def export(without: int = 0, plus: int = 0, sizes: BlockSizes | None = None) -> Export:
    return Export(SIZE, (ALL | plus) & ~int(without), sizes or BlockSizes())


MIB = 1 << 20


@pytest.mark.parametrize(
    ("kind", "flags", "length", "data"),
    [
        (Kind.READ, 0, 4096, None),
        (Kind.WRITE, Flag.FUA, 4, b"abcd"),
        (Kind.FLUSH, 0, 0, None),
        (Kind.TRIM, Flag.FUA, SIZE, None),
        (Kind.CACHE, 0, 512, None),
        (Kind.ZERO, Flag.FUA | Flag.NO_HOLE | Flag.FAST_ZERO, SIZE, None),
        (Kind.BLOCK_STATUS, 0, SIZE, None),
    ],
)
def test_what_is_offered_is_said_as_it_is(
    kind: Kind, flags: int, length: int, data: bytes | None
) -> None:
    assert lower(export(), kind, flags, 0, length, data) == [(kind, flags, 0, length, data)]


def test_a_piece_of_the_start_image_is_written() -> None:
    assert lower(export(), Kind.START, 0, 512, 4, b"abcd") == [(Kind.WRITE, 0, 512, 4, b"abcd")]


@pytest.mark.parametrize(
    ("kind", "offer"),
    [
        (Kind.TRIM, TransmissionFlag.SEND_TRIM),
        (Kind.CACHE, TransmissionFlag.SEND_CACHE),
        (Kind.FLUSH, TransmissionFlag.SEND_FLUSH),
    ],
)
def test_advice_that_is_not_offered_is_left_out(kind: Kind, offer: int) -> None:
    length = 0 if kind == Kind.FLUSH else 512
    assert lower(export(without=offer), kind, 0, 0, length, None) == []


def test_zeroes_are_written_out_where_they_must() -> None:
    server = export(without=TransmissionFlag.SEND_WRITE_ZEROES)
    parts = lower(server, Kind.ZERO, Flag.NO_HOLE | Flag.FAST_ZERO, 512, 2 * MIB + 512, None)
    assert [part[:4] for part in parts] == [
        (Kind.WRITE, 0, 512, MIB),
        (Kind.WRITE, 0, 512 + MIB, MIB),
        (Kind.WRITE, 0, 512 + 2 * MIB, 512),
    ]
    assert [bytes(part[4] or b"") for part in parts] == [bytes(part[3]) for part in parts]


def test_zeroes_that_are_written_out_keep_fua() -> None:
    server = export(without=TransmissionFlag.SEND_WRITE_ZEROES)
    assert lower(server, Kind.ZERO, Flag.FUA, 0, 512, None) == [
        (Kind.WRITE, Flag.FUA, 0, 512, bytes(512))
    ]


def test_fast_zero_is_left_out_where_it_is_not_offered() -> None:
    server = export(without=TransmissionFlag.SEND_FAST_ZERO)
    parts = lower(server, Kind.ZERO, Flag.FAST_ZERO | Flag.NO_HOLE, 0, 512, None)
    assert parts == [(Kind.ZERO, Flag.NO_HOLE, 0, 512, None)]


@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.ZERO, Kind.TRIM])
def test_fua_becomes_a_flush_where_it_is_not_offered(kind: Kind) -> None:
    data = b"abcd" if kind == Kind.WRITE else None
    parts = lower(export(without=TransmissionFlag.SEND_FUA), kind, Flag.FUA, 0, 4, data)
    assert parts == [(kind, 0, 0, 4, data), (Kind.FLUSH, 0, 0, 0, None)]


def test_fua_is_left_out_where_there_is_no_flush_either() -> None:
    server = export(without=TransmissionFlag.SEND_FUA | TransmissionFlag.SEND_FLUSH)
    assert lower(server, Kind.WRITE, Flag.FUA, 0, 4, b"abcd") == [(Kind.WRITE, 0, 0, 4, b"abcd")]


def test_large_writes_are_split() -> None:
    server = export(sizes=BlockSizes(1, 4096, 4096))
    data = bytes(range(256)) * 40
    parts = lower(server, Kind.WRITE, Flag.FUA, 1000, len(data), data)
    assert [part[:4] for part in parts] == [
        (Kind.WRITE, Flag.FUA, 1000, 4096),
        (Kind.WRITE, Flag.FUA, 5096, 4096),
        (Kind.WRITE, Flag.FUA, 9192, 2048),
    ]
    assert b"".join(bytes(part[4] or b"") for part in parts) == data


def test_large_reads_are_split() -> None:
    server = export(sizes=BlockSizes(1, 4096, 4096))
    parts = lower(server, Kind.READ, 0, 0, 10_000, None)
    assert parts == [
        (Kind.READ, 0, 0, 4096, None),
        (Kind.READ, 0, 4096, 4096, None),
        (Kind.READ, 0, 8192, 1808, None),
    ]


@pytest.mark.parametrize("kind", [Kind.TRIM, Kind.ZERO, Kind.CACHE, Kind.BLOCK_STATUS])
def test_what_carries_no_data_is_never_split(kind: Kind) -> None:
    server = export(sizes=BlockSizes(1, 4096, 4096))
    assert len(lower(server, kind, 0, 0, SIZE, None)) == 1


@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.ZERO, Kind.START])
def test_a_read_only_server_cannot_take_changes(kind: Kind) -> None:
    server = export(plus=TransmissionFlag.READ_ONLY)
    with pytest.raises(Undecidable, match="read-only"):
        lower(server, kind, 0, 0, 512, bytes(512))


@pytest.mark.parametrize("kind", [Kind.READ, Kind.FLUSH, Kind.BLOCK_STATUS])
def test_a_read_only_server_takes_the_rest(kind: Kind) -> None:
    server = export(plus=TransmissionFlag.READ_ONLY)
    length = 0 if kind == Kind.FLUSH else 512
    assert len(lower(server, kind, 0, 0, length, None)) == 1


@pytest.mark.parametrize(("offset", "length"), [(512, 4096), (0, 512), (4096, 4097)])
def test_ops_that_do_not_suit_the_block_size(offset: int, length: int) -> None:
    server = export(sizes=BlockSizes(4096, 4096, MIB))
    with pytest.raises(Undecidable, match="block size, 4096 bytes"):
        lower(server, Kind.READ, 0, offset, length, None)
