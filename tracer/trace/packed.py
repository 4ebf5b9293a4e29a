"""Payloads that traces of one folder share: what ``trace pack`` makes of their payload stores.

``payload-blocks/`` in the traces' folder has the data, in blocks that are named by their content:
zstd frames, each the digest of what it holds. ``NAME.payloads`` is then an index: a msgpack header
map, the names of the trace's blocks, and runs, each of which says where a piece of the trace's
stream of payloads is. Positions in records stay as they are.
"""

import os
import struct
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgpack
import zstandard
from blake3 import blake3

from tracer.closing import Closing
from tracer.errors import TraceError
from tracer.files import open_file
from tracer.trace.header import MAX_HEADER, unpack_header
from tracer.trace.payload_reader import PayloadReader
from tracer.trace.payloads import MAX_BLOCK, max_frame

FORMAT = "blkbox-packed"
VERSION = 1

FOLDER = "payload-blocks"
"""The folder with the blocks, beside the traces."""

NAME = 16
"""Bytes of a block's name: the first 128 bits of BLAKE3 of its content, in hexadecimal."""

RUN = struct.Struct(">QIII")
"""A run: its position in the trace's stream, its length, the number of its block in the index, and
where it begins in there."""


@dataclass(frozen=True, slots=True)
class Run:
    """A piece of a trace's payloads: ``[position, position + length)`` is in a block from
    ``offset`` on. All are bytes of uncompressed data."""

    position: int
    length: int
    block: int
    offset: int


def block_path(folder: Path, name: bytes) -> Path:
    """Return the path of a block of the traces in a folder. A folder holds 1/256 of them."""
    text = name.hex()
    return folder / FOLDER / text[:2] / text


def content_name(data: bytes) -> bytes:
    """Return the name of a block with this content."""
    return blake3(data).digest(NAME)


def pack_index(trace_id: str, blocks: list[bytes], runs: Iterable[Run]) -> bytes:
    """Return the content of an index."""
    packed = [RUN.pack(run.position, run.length, run.block, run.offset) for run in runs]
    header = {
        "format": FORMAT, "version": VERSION, "trace": trace_id, "codec": "zstd",
        "blocks": len(blocks), "runs": len(packed),
    }  # fmt: skip
    return b"".join([msgpack.packb(header), *blocks, *packed])


def open_payloads(path: Path, trace_id: str) -> "PayloadReader | PackedReader":
    """Open a trace's payloads, packed or not. Raises TraceError."""
    return PackedReader(path, trace_id) if is_packed(path) else PayloadReader(path, trace_id)


def is_packed(path: Path) -> bool:
    """Whether a file is the index of packed payloads. What cannot be read is none."""
    try:
        fd = open_file(path)
        try:
            unpack_header(path, os.pread(fd, MAX_HEADER, 0), kind="", name=FORMAT, version=VERSION)
        finally:
            os.close(fd)
    except (OSError, TraceError):
        return False
    return True


class PackedReader(Closing):
    """Reads payloads by position, as PayloadReader does. Raises TraceError if the index cannot be
    read, is not valid or belongs to another trace; the blocks are opened when they are read."""

    CACHED = 8
    """Uncompressed blocks that are kept in memory."""

    torn = False
    """An index appears whole."""

    def __init__(self, path: Path, trace_id: str | None) -> None:
        self.path = path
        try:
            fd = open_file(path)
            with os.fdopen(fd, "rb") as file:
                raw = file.read()
        except OSError as error:
            raise TraceError(f"cannot open the payloads {path}: {error.strerror}") from error
        header, at = unpack_header(
            path, raw[:MAX_HEADER], kind="packed payloads", name=FORMAT, version=VERSION
        )
        if trace_id is not None and header.get("trace") != trace_id:
            raise TraceError(f"{path} belongs to another trace")
        blocks, runs = header.get("blocks"), header.get("runs")
        if type(blocks) is not int or type(runs) is not int or blocks < 0 or runs < 0:
            raise self._invalid("its header has no counts")
        names_end = at + blocks * NAME
        if len(raw) != names_end + runs * RUN.size:
            raise self._invalid("it has not the size that its header says")
        self.names = [raw[start : start + NAME] for start in range(at, names_end, NAME)]
        self._runs = memoryview(raw)[names_end:]
        self._positions = array("Q")
        self.end = 0
        """The position after the last run."""
        for run in self.runs():
            if run.position < self.end or not run.length or run.block >= blocks:
                raise self._invalid(f"a run at {run.position} is not valid")
            self._positions.append(run.position)
            self.end = run.position + run.length
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._decompressor = zstandard.ZstdDecompressor()

    def runs(self) -> Iterator[Run]:
        """Yield the runs, by position."""
        return (Run(*fields) for fields in RUN.iter_unpack(self._runs))

    def read(self, position: int, length: int) -> bytes:
        """Return a payload's bytes. Raises TraceError if they are missing or damaged."""
        pieces = []
        while length:
            index = bisect_right(self._positions, position) - 1
            run = self._run(index) if index >= 0 else None
            if run is None or position >= run.position + run.length:
                raise TraceError(f"{self.path}: the payload at {position} is missing")
            inner = position - run.position
            piece = self._piece(run)[inner : inner + length]
            pieces.append(piece)
            position += len(piece)
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def blocks(self, wanted: Callable[[int, int], bool]) -> Iterator[tuple[int, bytes]]:
        """Yield the position and the data of each run for which ``wanted(position, length)`` is
        true, by position. Raises TraceError."""
        for run in self.runs():
            if wanted(run.position, run.length):
                yield run.position, self._piece(run)

    def close(self) -> None:
        """Forget the blocks. Nothing is open between reads."""
        self._cache.clear()

    def _run(self, index: int) -> Run:
        return Run(*RUN.unpack_from(self._runs, index * RUN.size))

    def _piece(self, run: Run) -> bytes:
        piece = self._block(run.block)[run.offset : run.offset + run.length]
        if len(piece) != run.length:
            raise self._invalid(f"the run at {run.position} is longer than its block")
        return piece

    def _block(self, number: int) -> bytes:
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        data = read_block(self.path.parent, self.names[number], self._decompressor)
        self._cache[number] = data
        if len(self._cache) > self.CACHED:
            self._cache.popitem(last=False)
        return data

    def _invalid(self, why: str) -> TraceError:
        return TraceError(f"{self.path} is not a valid index of payloads: {why}")


def read_block(folder: Path, name: bytes, decompressor: zstandard.ZstdDecompressor) -> bytes:
    """Return the content of a block, which its name proves. Raises TraceError if it is missing or
    damaged."""
    path = block_path(folder, name)
    try:
        fd = open_file(path)
        with os.fdopen(fd, "rb") as file:
            frame = file.read(max_frame(MAX_BLOCK) + 1)
        # zstd allocates what a frame states, whatever limit it is given
        length = zstandard.frame_content_size(frame)
        if not 0 < length <= MAX_BLOCK:
            raise TraceError(f"{path} is damaged: it has {length} bytes")
        data = decompressor.decompress(frame, max_output_size=length)
    except OSError as error:
        raise TraceError(
            f"cannot open {path}: {error.strerror}: packed traces need the folder {FOLDER} beside "
            "them"
        ) from error
    except zstandard.ZstdError as error:
        raise TraceError(f"{path} is damaged") from error
    if content_name(data) != name:
        raise TraceError(f"{path} is damaged: its content is not what its name says")
    return data
