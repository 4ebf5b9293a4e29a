"""Sectors are found wherever they lie in a stream, and nothing else is."""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.provenance import lookup
from analysis.provenance.lookup import Blocks, find
from tests.kit.damage import noise
from tracer.digest import digest
from tracer.op import SECTOR
from tracer.trace.payload_reader import PayloadReader
from tracer.trace.payloads import PayloadWriter


def in_blocks(stream: bytes, cuts: Iterable[int] = (), asked: list[int] | None = None) -> Blocks:
    """Gives a stream in blocks that begin at ``cuts``, and at its beginning."""

    def blocks(wanted: Callable[[int, int], bool]) -> Iterator[tuple[int, bytes]]:
        for at, end in pairwise(sorted({0, *cuts, len(stream)})):
            if wanted(at, end - at):
                if asked is not None:
                    asked.append(at)
                yield at, stream[at:end]

    return blocks


def rows(*sectors: bytes) -> np.ndarray:
    return np.frombuffer(b"".join(sectors), np.uint8).reshape(-1, SECTOR)


def search(
    blocks: Blocks, spans: list[tuple[int, int]], wanted: np.ndarray
) -> list[tuple[int, int]]:
    starts, ends = np.array(spans, np.int64).reshape(-1, 2).T
    hits = find(blocks, starts, ends, wanted, lambda more: None)
    return list(zip(hits.place.tolist(), hits.content.tolist(), strict=True))


@given(st.data())
def test_as_a_loop_over_all_sectors_finds_them(data: st.DataObject) -> None:
    """Spans of any alignment, some in a new block; few different sectors, so that much is found."""
    pool = [noise(SECTOR, number) for number in range(4)]
    stream, spans, cuts = b"", [], []
    for _ in range(data.draw(st.integers(0, 8))):
        if data.draw(st.booleans()):
            cuts.append(len(stream))
        lead = data.draw(st.sampled_from([0, 0, 0, 1, 100, 511]))
        body = b"".join(data.draw(st.lists(st.sampled_from(pool), max_size=4)))
        tail = data.draw(st.sampled_from([0, 0, 0, 3, 510]))
        spans.append((len(stream) + lead, len(stream) + lead + len(body) + tail))
        stream += b"-" * lead + body + b"+" * tail
    wanted = rows(*pool[:2], noise(SECTOR, "nowhere"))
    found = search(in_blocks(stream, cuts), spans, wanted)
    expected = {
        (at, number)
        for start, end in spans
        for at in range(start, end - SECTOR + 1, SECTOR)
        for number in range(2)
        if stream[at : at + SECTOR] == pool[number]
    }
    assert expected <= set(found)
    assert all(stream[at : at + SECTOR] == wanted[number].tobytes() for at, number in found)


def test_in_every_block_and_in_no_others_than_are_asked_for() -> None:
    one, two = noise(SECTOR, 1), noise(SECTOR, 2)
    stream, asked = (one + two) * 4, []
    blocks = in_blocks(stream, [1024, 2048, 3072], asked)
    # the gap is between two spans that are aligned alike, and looked at with them
    everywhere = [(at, 0) for at in (512, 1536, 2560, 3584)]
    assert search(blocks, [(0, 2048), (3072, 4096)], rows(two)) == everywhere
    assert asked == [0, 1024, 2048, 3072]
    asked.clear()
    assert search(blocks, [(1024, 2048)], rows(two, one)) == [(1024, 1), (1536, 0)]
    assert asked == [1024]


def test_blocks_that_begin_out_of_step_with_the_sectors_in_them() -> None:
    """Writes that begin 412 bytes into a sector: the disk's next one is 100 bytes into each
    block."""
    one = noise(SECTOR, 1)
    stream = (b"-" * 100 + one + b"+" * 412) * 2
    spans = [(100, 1024), (1124, 2048)]
    assert search(in_blocks(stream, [1024]), spans, rows(one)) == [(100, 0), (1124, 0)]


def test_equal_hashes_are_not_equal_sectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "sector_hashes", lambda sectors: np.zeros(len(sectors), np.uint64))
    one, two = noise(SECTOR, 1), noise(SECTOR, 2)
    assert search(in_blocks(two + one), [(0, 1024)], rows(one)) == [(512, 0)]


def test_sectors_with_the_same_words_in_another_order_have_other_hashes() -> None:
    words = np.arange(64, dtype=np.uint64)
    hashes = lookup.sector_hashes(np.stack([words, words[::-1], np.roll(words, 1)]))
    assert len(set(hashes.tolist())) == 3


def test_blocks_of_a_payload_store(tmp_path: Path) -> None:
    path = tmp_path / "some.payloads"
    writer = PayloadWriter(path, "id")
    contents = [noise(700 << 10, number) for number in range(5)]
    for data in contents:
        writer.put(digest(data), data)
    writer.close()
    with PayloadReader(path, "id") as reader:
        blocks = list(reader.blocks(lambda at, length: True))
        assert b"".join(data for _, data in blocks) == b"".join(contents)
        assert len(blocks) > 1
        assert list(reader.blocks(lambda at, length: at > 0)) == blocks[1:]
