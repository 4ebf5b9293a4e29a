"""Nothing that a file says makes a verb take much memory: the peak of a child is measured."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest
import zstandard

from tests.kit.peers import PEER_ENV
from tests.kit.traces import write_trace
from tracer.digest import digest
from tracer.errors import Exit
from tracer.op import Kind, Op
from tracer.trace.file import Trace
from tracer.trace.payload_reader import PayloadReader
from tracer.trace.payloads import (
    FORMAT,
    MAX_BLOCK,
    VERSION,
    PayloadWriter,
    max_frame,
    pack_block_head,
)
from tracer.trace.records import RECORD_SIZE, pack_op

LIMIT = 300 << 20
"""Bytes."""

SMALL = 120 << 20
"""Bytes that a verb takes which refuses its file at once, and some more."""


PEAK = """
import sys
from blkbox import main, output
output.prepare()
code = main.run(sys.argv[1:])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(code, peak.split()[1])
"""
"""Runs ``trace`` and prints its exit code and the most memory (KiB) that it took. What getrusage
says of a child includes the parent's memory, from before exec."""


def peak(folder: Path, *words: str, expect: Exit) -> int:
    """Run ``trace`` and return the most memory (bytes) that it took."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *words],
        cwd=folder, env=PEER_ENV, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    code, used = map(int, done.stdout.splitlines()[-1].split())
    assert code == expect, done.stderr
    assert expect == Exit.CLEAN or len(done.stderr.splitlines()) <= 1, done.stderr
    return used * 1024


def store(folder: Path, *blocks: tuple[int, int, bytes], more: int = 0) -> None:
    """A trace of one write of 4 KiB, and a payload store of handmade blocks, each with its length,
    the size of its frame, and its frame; then ``more`` bytes as a hole."""
    path = write_trace(
        folder / "x.trace", [Op(0, int(Kind.WRITE), 0, 0, 4096, payload=0, digest=b"d" * 16)]
    )
    with Trace(path) as trace:
        name = trace.header.id
    position = 0
    with (folder / "x.payloads").open("wb") as file:
        header = {"format": FORMAT, "version": VERSION, "trace": name, "codec": "zstd"}
        file.write(msgpack.packb(header))
        for length, size, frame in blocks:
            file.write(pack_block_head(position, length, size) + frame)
            position += length
        file.truncate(file.tell() + more)


def huge_frame(folder: Path) -> None:
    """4 GiB of frame for 4 KiB of data."""
    store(folder, (4096, (1 << 32) - 1, b""), more=(1 << 32) + 100)


def empty_blocks(folder: Path) -> None:
    """95 MB of empty blocks."""
    empty = zstandard.ZstdCompressor().compress(b"")
    block = pack_block_head(0, 0, len(empty)) + empty
    store(folder)
    with (folder / "x.payloads").open("ab") as file:
        for _ in range(95):
            file.write(block * (1_000_000 // len(block)))


def bomb(folder: Path) -> None:
    """A small frame that becomes 1 GiB, and does not say so."""
    maker = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    frame = b"".join(maker.compress(bytes(1 << 20)) for _ in range(1024)) + maker.flush()
    store(folder, (MAX_BLOCK, len(frame), frame))


def claiming_bomb(folder: Path) -> None:
    """A frame that says that it becomes 4 GiB."""
    frame = bytes.fromhex("28b52ffd") + b"\xa0" + b"\xff" * 4 + b"\x01\x00\x00"
    store(folder, (4096, len(frame), frame))


@pytest.mark.parametrize("make", [huge_frame, empty_blocks, bomb, claiming_bomb])
def test_payloads_that_want_memory_are_refused(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path)
    used = peak(tmp_path, "checkout", "x.trace", "-o", "x.raw", expect=Exit.BAD_TRACE)
    assert used < SMALL
    assert peak(tmp_path, "verify", "x.trace", expect=Exit.BAD_TRACE) < SMALL


@pytest.mark.slow
def test_blocks_of_the_largest_size(tmp_path: Path) -> None:
    """What is kept of them is bounded in bytes, not only in number."""
    frame = zstandard.ZstdCompressor().compress(bytes(MAX_BLOCK - 1) + b"x")
    store(tmp_path, *[(MAX_BLOCK, len(frame), frame)] * 12)
    key = digest(bytes(4096))
    ops = [
        Op(seq, int(Kind.WRITE), 0, 0, 4096, payload=seq * MAX_BLOCK, digest=b"d" * 16)
        for seq in range(12)
    ]
    with (tmp_path / "x.trace").open("r+b") as file:
        file.seek(-2 * RECORD_SIZE, os.SEEK_END)
        file.truncate()
        file.write(b"".join(map(pack_op, ops)))
    assert key == bytes(16)
    assert peak(tmp_path, "verify", "x.trace", expect=Exit.BAD_TRACE) < LIMIT


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece",
    [b"[],", b'{"a":1},', "\U0001f600".encode() * 10, b"1,"],
    ids=["lists", "maps", "text", "numbers"],
)
def test_verdicts_that_want_memory(tmp_path: Path, piece: bytes) -> None:
    content = b'{"schema": 1, "verdict": "clean", "damage": ['
    wrap = b'"' if len(piece) > 8 else b""
    content += wrap + piece * ((23 << 20) // len(piece)) + (wrap or b"1") + b"]}"
    (tmp_path / "v.json").write_bytes(content)
    assert peak(tmp_path, "report", "v.json", expect=Exit.USAGE) < LIMIT


@pytest.mark.slow
def test_ops_after_one_without_a_record(tmp_path: Path) -> None:
    """They need not wait for it until the trace ends."""
    ops = [
        Op(seq, int(Kind.ZERO), 0, seq % 99 * 4096, 4096, seq, seq + 1) for seq in range(1, 150_000)
    ]
    write_trace(tmp_path / "x.trace", ops, 1 << 20)
    store_ = PayloadWriter(tmp_path / "x.payloads", _id(tmp_path / "x.trace"))
    store_.close()
    used = peak(tmp_path, "checkout", "x.trace", "-o", "x.raw", expect=Exit.CLEAN)
    assert used < 75 << 20  # all ops together take 80 MB more


def _id(path: Path) -> str:
    with Trace(path) as trace:
        return trace.header.id


def test_more_blocks_than_the_index_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PayloadReader, "INDEXED", 8)
    contents = [bytes([number]) * (number + 1) for number in range(100)]
    frames = [zstandard.ZstdCompressor().compress(data) for data in contents]
    blocks = zip(map(len, contents), map(len, frames), frames, strict=True)
    store(tmp_path, *blocks)
    with PayloadReader(tmp_path / "x.payloads", _id(tmp_path / "x.trace")) as reader:
        assert len(reader._places) <= 8
        assert [data for _, data in reader.blocks(lambda *_: True)] == contents
        position = sum(map(len, contents))
        for data in reversed(contents):
            position -= len(data)
            assert reader.read(position, len(data)) == data
        assert reader.read(0, 99) == b"".join(contents)[:99]


@pytest.mark.parametrize("length", [1, 100, 4096, 1 << 17, (1 << 17) + 1, 1 << 20, MAX_BLOCK])
def test_what_cannot_be_compressed_fits(length: int) -> None:
    frame = zstandard.ZstdCompressor(level=-1).compress(os.urandom(length))
    assert length < len(frame) <= max_frame(length)
