"""Frames that hold their content as it is: any zstd reads them."""

from pathlib import Path

import pytest
import zstandard

from tests.kit.data import pattern
from tests.kit.peers import need, peer
from tracer.trace.stored import PIECE, stored_frame

LENGTHS = [1, 255, 256, 65536 + 256, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE, 33 << 20]


def frame(data: bytes) -> bytes:
    parts, size = stored_frame(data)
    joined = b"".join(parts)
    assert len(joined) == size
    return joined


@pytest.mark.parametrize("length", LENGTHS)
def test_zstd_reads_it(length: int) -> None:
    data = pattern(length)
    made = frame(data)
    assert zstandard.frame_content_size(made) == length
    assert zstandard.ZstdDecompressor().decompress(made, max_output_size=length) == data
    assert length < len(made) <= length + 9 + 3 * -(-length // PIECE)


@pytest.mark.parametrize("length", [0, 1, PIECE + 1])
def test_it_ends_with_its_last_block(length: int) -> None:
    reader = zstandard.ZstdDecompressor().decompressobj()
    made = frame(pattern(length))
    assert reader.decompress(made + b"rest") == pattern(length)
    assert reader.unused_data == b"rest"


def test_the_program_zstd_reads_it(tmp_path: Path) -> None:
    need("zstd")
    (tmp_path / "f.zst").write_bytes(frame(pattern(3 * PIECE + 7)))
    peer("zstd", "-q", "-d", "f.zst", cwd=tmp_path)
    assert (tmp_path / "f").read_bytes() == pattern(3 * PIECE + 7)
