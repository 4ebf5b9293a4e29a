"""The payload store: what was put reads back, and what is damaged says so."""

import os
from contextlib import suppress
from pathlib import Path

import msgpack
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kit.data import pattern
from tests.kit.system import file_size_limit, wait_until
from tracer.digest import digest
from tracer.errors import Exit, StorageError, TraceError
from tracer.op import NO_PAYLOAD
from tracer.trace import payloads
from tracer.trace.payload_reader import PayloadReader
from tracer.trace.payloads import (
    BLOCK,
    BLOCK_HEAD,
    FORMAT,
    MAX_BLOCK,
    VERSION,
    PayloadWriter,
    pack_block_head,
    payload_path,
)

# the file is written anew by every example
rewritten = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

ID = "0123456789abcdef"
HEADER = {"format": FORMAT, "version": VERSION, "trace": ID, "codec": "zstd"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.payloads"


def store(path: Path, *contents: bytes) -> list[int]:
    """Write a store; return where each content is."""
    writer = PayloadWriter(path, ID)
    positions = [writer.put(digest(data), data) for data in contents]
    writer.close()
    return positions


def load(path: Path, places: list[tuple[int, int]]) -> list[bytes]:
    with PayloadReader(path, ID) as reader:
        return [reader.read(position, length) for position, length in places]


def handmade(path: Path, *blocks: tuple[int, int, bytes], header: object = None) -> None:
    """Write a store's file by hand: blocks of position, length and frame."""
    parts = [msgpack.packb(HEADER if header is None else header)]
    parts += [
        pack_block_head(position, length, len(frame)) + frame for position, length, frame in blocks
    ]
    path.write_bytes(b"".join(parts))


def frame(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


# ---------------------------------------------------------------- round trip


@settings(rewritten, max_examples=25)
@given(
    st.lists(st.binary(min_size=1, max_size=3000), max_size=20), st.randoms(use_true_random=False)
)
def test_what_was_put_reads_back_in_any_order(
    path: Path, contents: list[bytes], random: object
) -> None:
    positions = store(path, *contents)
    places = [
        (position, data)
        for position, data in zip(positions, contents, strict=True)
        if position != NO_PAYLOAD
    ]
    random.shuffle(places)  # type: ignore[attr-defined]
    found = load(path, [(position, len(data)) for position, data in places])
    assert found == [data for _, data in places]


def test_payloads_beside_their_trace(tmp_path: Path) -> None:
    assert payload_path(tmp_path / "install.trace") == tmp_path / "install.payloads"


def test_equal_contents_are_stored_once(path: Path) -> None:
    one, two = pattern(4096), pattern(4096, seed=1)
    first, other, again = store(path, one, two, bytes(one))
    assert first == again != other
    assert load(path, [(first, 4096), (other, 4096)]) == [one, two]


def test_equal_contents_are_stored_once_again_when_memory_starts_over(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payloads, "KNOWN", 2)
    contents = [pattern(600, seed) for seed in (0, 1, 2, 0)]
    positions = store(path, *contents)
    assert positions == [0, 600, 1200, 1800]
    assert load(path, [(position, 600) for position in positions]) == contents


def test_zeroes_are_not_stored(path: Path) -> None:
    assert store(path, bytes(4096)) == [NO_PAYLOAD]
    assert len(path.read_bytes()) == len(msgpack.packb(HEADER))


def test_an_empty_store(path: Path) -> None:
    store(path)
    with PayloadReader(path, ID) as reader:
        assert reader.end == 0
        assert not reader.torn


@pytest.mark.parametrize("length", [BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 3, 32 << 20])
def test_large_payloads(path: Path, length: int) -> None:
    big = (pattern(65_536) * (length // 65_536 + 1))[:length]
    small = b"small"
    before, at, after = store(path, b"before", big, small)
    assert load(path, [(after, 5), (at, length), (before, 6)]) == [small, big, b"before"]


def test_many_blocks_and_few_in_memory(path: Path) -> None:
    contents = [os.urandom(64) + bytes(BLOCK - 64) for _ in range(PayloadReader.CACHED + 4)]
    positions = store(path, *contents)
    places = [(position, BLOCK) for position in positions]
    assert load(path, places + places[::-1]) == contents + contents[::-1]


def test_a_piece_of_a_payload_can_be_read(path: Path) -> None:
    (at,) = store(path, pattern(5000))
    assert load(path, [(at + 100, 50)]) == [pattern(5000)[100:150]]


def test_any_msgpack_library_reads_it(path: Path) -> None:
    contents = [pattern(3000), pattern(2000, seed=5)]
    store(path, *contents)
    with path.open("rb") as file:
        header, *blocks = list(msgpack.Unpacker(file, max_buffer_size=1 << 26))
    assert header == HEADER
    assert [block[0] for block in blocks][:1] == [0]
    data = b"".join(zstandard.ZstdDecompressor().decompress(block[2]) for block in blocks)
    assert data == b"".join(contents)
    assert sum(block[1] for block in blocks) == 5000


def test_it_asks_to_be_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payloads, "QUEUE_LIMIT", -1)
    writer = PayloadWriter(path, ID)
    assert writer.full
    monkeypatch.setattr(payloads, "QUEUE_LIMIT", 1 << 20)
    assert not writer.full
    writer.close()


# ---------------------------------------------------------------- torn


@pytest.mark.parametrize(
    ("hurry", "behind", "calm", "stored"),
    [
        (True, 0, 60, True),  # data waits, and no pause is long enough
        (False, 0, 60, False),  # nobody waits for this writer
        (True, 100 * BLOCK, 60, False),  # it keeps up
        (True, 0, -1, False),  # every pause is long enough
    ],
)
def test_a_writer_that_cannot_keep_up_stores_data_as_it_is(
    path: Path, monkeypatch: pytest.MonkeyPatch, hurry: bool, behind: int, calm: float, stored: bool
) -> None:
    monkeypatch.setattr(payloads, "BEHIND", behind)
    monkeypatch.setattr(payloads, "CALM", calm)
    contents = [pattern(BLOCK // 2, seed) for seed in range(7)]
    writer = PayloadWriter(path, ID, hurry=hurry)
    positions = [writer.put(digest(data), data) for data in contents]
    writer.close()
    total = sum(map(len, contents))
    assert load(path, [(at, len(d)) for at, d in zip(positions, contents, strict=True)]) == contents
    assert (path.stat().st_size > total) == stored
    assert path.stat().st_size < (total + 1000 if stored else total // 2)


def test_it_compresses_again_after_a_pause(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payloads, "BEHIND", 0)
    monkeypatch.setattr(payloads, "CALM", 60)
    first, second = pattern(BLOCK, 1), pattern(BLOCK, 2)
    writer = PayloadWriter(path, ID, hurry=True)
    places = [(writer.put(digest(first), first), BLOCK)]
    writer.sync()
    assert path.stat().st_size > BLOCK
    monkeypatch.setattr(payloads, "CALM", -1)
    writer.sync()  # so that the thread waits with the new patience
    places.append((writer.put(digest(second), second), BLOCK))
    writer.close()
    assert path.stat().st_size < BLOCK * 3 // 2
    assert load(path, places) == [first, second]


def test_cut_anywhere_the_payloads_in_whole_blocks_read(path: Path) -> None:
    contents = [pattern(700, seed) for seed in range(3)]
    handmade(path, *[(at * 700, 700, frame(data)) for at, data in enumerate(contents)])
    whole = path.read_bytes()
    header = len(msgpack.packb(HEADER))
    ends = [header]
    for data in contents:
        ends.append(ends[-1] + BLOCK_HEAD.size + len(frame(data)))
    assert ends[-1] == len(whole)
    for cut in range(header, len(whole) + 1):
        path.write_bytes(whole[:cut])
        there = sum(end <= cut for end in ends[1:])
        with PayloadReader(path, ID) as reader:
            assert reader.end == there * 700
            assert reader.torn == (cut not in ends)
            for at, data in enumerate(contents):
                if at < there:
                    assert reader.read(at * 700, 700) == data
                else:
                    with pytest.raises(TraceError, match="missing"):
                        reader.read(at * 700, 700)


def test_a_payload_that_is_only_partly_there(path: Path) -> None:
    handmade(path, (0, 700, frame(pattern(700))))
    with (
        PayloadReader(path, ID) as reader,
        pytest.raises(TraceError, match="the payload at 700 is missing"),
    ):
        reader.read(600, 200)


@pytest.mark.parametrize("position", [1, 1 << 40, NO_PAYLOAD])
def test_a_position_where_nothing_is(path: Path, position: int) -> None:
    store(path, b"x")
    with PayloadReader(path, ID) as reader, pytest.raises(TraceError, match="is missing"):
        reader.read(position, 1)


# ---------------------------------------------------------------- what is no store, or damaged


def why_not(path: Path, position: int = 0, length: int = 1) -> str:
    """Read from it; return why that fails, in one line."""
    with pytest.raises(TraceError) as caught:
        load(path, [(position, length)])
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert caught.value.exit_code == Exit.BAD_TRACE
    return message


def test_a_file_that_is_not_there(path: Path) -> None:
    assert "No such file" in why_not(path)


def test_a_folder(tmp_path: Path) -> None:
    assert "Is a directory" in why_not(tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"hello, world", bytes(100), b"\xc1", b"\xdf\xff\xff\xff\xff"]
)
def test_other_files(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    assert "is not a payload store" in why_not(path)


@pytest.mark.parametrize("header", [[], {"format": "other"}, {**HEADER, "format": None}, 5])
def test_other_headers(path: Path, header: object) -> None:
    handmade(path, header=header)
    assert "is not a payload store" in why_not(path)


def test_another_version(path: Path) -> None:
    handmade(path, header={**HEADER, "version": VERSION + 1})
    assert "version 2 is not known here" in why_not(path)


def test_payloads_of_another_trace(path: Path) -> None:
    handmade(path, header={**HEADER, "trace": "another"})
    assert "belongs to another trace" in why_not(path)


@pytest.mark.parametrize(
    "block",
    [
        pack_block_head(1, 10, 5),  # not where the blocks before it end
        pack_block_head(0, MAX_BLOCK + 1, 5),
        b"\xff" * BLOCK_HEAD.size,
        b"\x94" + pack_block_head(0, 10, 5)[1:],
    ],
)
def test_no_block_where_one_should_be(path: Path, block: bytes) -> None:
    handmade(path)
    at = path.stat().st_size
    path.write_bytes(path.read_bytes() + block + bytes(10))
    assert f"the block at byte {at} is not valid: " in why_not(path)


@pytest.mark.parametrize("at", [0, 4, 9, -1])
def test_a_damaged_frame_says_where(path: Path, at: int) -> None:
    bad = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(pattern(700)))
    bad[at] ^= 0xFF
    handmade(path, (0, 700, bytes(bad)))
    where = len(msgpack.packb(HEADER))
    assert f"the block at byte {where} is damaged" in why_not(path)


@pytest.mark.parametrize("length", [1, 699, 701, 1400])
def test_a_block_of_another_length_than_it_says(path: Path, length: int) -> None:
    handmade(path, (0, length, frame(pattern(700))))
    assert "is damaged" in why_not(path) or length == 1


def claiming(size: int) -> bytes:
    """A frame that claims to hold ``size`` bytes: a magic number, a header, and an empty block."""
    return bytes.fromhex("28b52ffd") + b"\xc0\x58" + size.to_bytes(8, "little") + b"\x01\x00\x00"


@pytest.mark.parametrize("size", [1 << 30, 1 << 40, 1 << 62])
def test_a_frame_that_claims_to_be_huge_takes_no_memory(path: Path, size: int) -> None:
    handmade(path, (0, 700, claiming(size)))
    assert "is damaged" in why_not(path)


@rewritten
@given(st.data())
def test_damage_anywhere_is_an_error_or_other_bytes(path: Path, data: st.DataObject) -> None:
    """Whatever the bytes are, reading gives bytes of the length asked for, or a TraceError."""
    handmade(path, (0, 700, frame(pattern(700))), (700, 700, frame(pattern(700, seed=1))))
    bad = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bad)
    with suppress(TraceError):
        found = load(path, [(0, 700), (700, 700), (600, 200)])
        assert [len(piece) for piece in found] == [700, 700, 200]


# ---------------------------------------------------------------- our own disk fails


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        PayloadWriter(tmp_path / "no" / "folder.payloads", ID)


def test_a_full_disk_from_the_start() -> None:
    with pytest.raises(StorageError, match="No space left"):
        PayloadWriter(Path("/dev/full"), ID)


def test_a_disk_that_fills_up(path: Path) -> None:
    """What was written before reads back; closing says what went wrong."""
    writer = PayloadWriter(path, ID)
    first = os.urandom(BLOCK)
    writer.put(digest(first), first)
    wait_until(lambda: path.stat().st_size > BLOCK)
    with file_size_limit(path.stat().st_size + 1000):
        second = os.urandom(BLOCK)
        at = writer.put(digest(second), second)
        third = writer.put(b"3" * 16, b"small")
        with pytest.raises(StorageError, match="File too large") as caught:
            writer.close()
    assert caught.value.exit_code == Exit.STORAGE
    assert load(path, [(0, BLOCK)]) == [first]
    for position, length in ((at, BLOCK), (third, 5)):
        assert "is missing" in why_not(path, position, length)
