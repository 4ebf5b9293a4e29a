"""The payload store, read by position (tracer/trace/payloads.py writes it).

Nothing that the file says makes the reader take more memory than it needs for the file that a
writer would make: every size is checked before memory is taken.
"""

import errno
import os
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

from tracer.closing import Closing
from tracer.errors import TraceError
from tracer.files import open_file
from tracer.trace.header import MAX_HEADER, unpack_header
from tracer.trace.payloads import (
    BLOCK_HEAD,
    FORMAT,
    MAX_BLOCK,
    VERSION,
    max_frame,
    pack_block_head,
)


@dataclass(frozen=True, slots=True)
class _Block:
    at: int
    """The byte of the file at which the block's head is."""
    position: int
    length: int
    frame_size: int

    @property
    def end(self) -> int:
        """The position after the block's last byte."""
        return self.position + self.length

    @property
    def next(self) -> int:
        """The byte of the file after the block."""
        return self.at + BLOCK_HEAD.size + self.frame_size


class PayloadReader(Closing):
    """Reads payloads by position. Raises TraceError if the file cannot be read, is not a payload
    store or belongs to another trace.

    Takes memory for CACHED_BYTES and INDEXED, whatever the file says.
    """

    CACHED = 8
    """Uncompressed blocks that are kept in memory."""

    CACHED_BYTES = 64 << 20
    """The most bytes of these, unless a single block has more."""

    INDEXED = 1 << 20
    """The most blocks in the index: 16 MiB. If there are more, it has every second, fourth, ...
    block, and those between are found from the one before."""

    def __init__(self, path: Path, trace_id: str) -> None:
        self.path = path
        self.end = 0
        """The position after the last whole block."""
        self.torn = False
        """Whether the file ends in the middle of a block."""
        try:
            self._fd = open_file(path)
        except OSError as error:
            reason = str(error.strerror)
            if error.errno == errno.ENOENT:
                reason += ": get it with its trace, or replay what trace strip makes"
            raise TraceError(f"cannot open the payloads {path}: {reason}") from error
        # the index: where the blocks begin in the stream, and in the file
        self._positions, self._places = array("Q"), array("Q")
        self._first = self._last = 0  # where the blocks begin and end in the file
        self._cache: OrderedDict[int, tuple[_Block, bytes]] = OrderedDict()
        self._decompressor = zstandard.ZstdDecompressor()
        try:
            self._scan(trace_id)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise TraceError(f"cannot read the payloads {path}: {error.strerror}") from error
            raise

    def read(self, position: int, length: int) -> bytes:
        """Return a payload's bytes. Raises TraceError if they are missing or damaged."""
        pieces = []
        while length:
            block, data = self._load(position)
            piece = data[position - block.position :][:length]
            pieces.append(piece)
            position += len(piece)
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def blocks(self, wanted: Callable[[int, int], bool]) -> Iterator[tuple[int, bytes]]:
        """Yield the position and the data of each block for which ``wanted(position, length)`` is
        true, in the order of the file. Takes memory for one block. Raises TraceError."""
        for block in self._blocks(self._first, 0):
            if wanted(block.position, block.length):
                yield block.position, self._unpack(block)

    def close(self) -> None:
        """Close the file. Closing twice is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _load(self, position: int) -> tuple[_Block, bytes]:
        """Return the block that has a position, and its data. Raises TraceError."""
        index = bisect_right(self._positions, position) - 1
        if index < 0 or position >= self.end:
            raise TraceError(f"{self.path}: the payload at {position} is missing")
        from_here = self._blocks(self._places[index], self._positions[index])
        block = next((block for block in from_here if position < block.end), None)
        if block is None:
            raise TraceError(f"{self.path} changed while it was read")
        found = self._cache.get(block.at)
        if found is not None:
            self._cache.move_to_end(block.at)
            return found
        found = block, self._unpack(block)
        self._cache[block.at] = found
        kept = sum(block.length for block, _ in self._cache.values())
        while len(self._cache) > self.CACHED or (kept > self.CACHED_BYTES and len(self._cache) > 1):
            kept -= self._cache.popitem(last=False)[1][0].length
        return found

    def _unpack(self, block: _Block) -> bytes:
        try:
            frame = os.pread(self._fd, block.frame_size, block.at + BLOCK_HEAD.size)
            # zstd allocates what a frame states, or the frame's window if it states nothing,
            # whatever limit it is given
            if zstandard.frame_content_size(frame) != block.length:
                raise self._damaged(block)
            data = self._decompressor.decompress(frame, max_output_size=block.length)
        except zstandard.ZstdError as error:
            raise self._damaged(block) from error
        if len(data) != block.length:
            raise self._damaged(block)
        return data

    def _damaged(self, block: _Block) -> TraceError:
        return TraceError(f"{self.path}: the block at byte {block.at} is damaged")

    def _scan(self, trace_id: str) -> None:
        """Find all whole blocks."""
        head = os.pread(self._fd, MAX_HEADER, 0)
        header, self._first = unpack_header(
            self.path, head, kind="a payload store", name=FORMAT, version=VERSION
        )
        if header.get("trace") != trace_id:
            raise TraceError(f"{self.path} belongs to another trace")
        file_end = self._last = os.fstat(self._fd).st_size
        self._last, every = self._first, 1
        for number, block in enumerate(self._blocks(self._first, 0, file_end)):
            self._last, self.end = block.next, block.end
            if number % every == 0:
                self._positions.append(block.position)
                self._places.append(block.at)
                if len(self._places) > self.INDEXED:
                    self._positions, self._places = self._positions[::2], self._places[::2]
                    every *= 2
        self.torn = self._last != file_end

    def _blocks(self, at: int, position: int, end: int | None = None) -> Iterator[_Block]:
        """Yield the whole blocks from byte ``at`` of the file on, where position ``position`` is,
        up to byte ``end``: by default the last whole block. Raises TraceError."""
        end = self._last if end is None else end
        while at < end:
            raw = os.pread(self._fd, BLOCK_HEAD.size, at)
            if len(raw) < BLOCK_HEAD.size:
                return
            length, frame_size = BLOCK_HEAD.unpack(raw)[4::2]
            wrong = _wrong_head(raw, position, length, frame_size)
            if wrong is not None:
                raise TraceError(f"{self.path}: the block at byte {at} is not valid: {wrong}")
            block = _Block(at, position, length, frame_size)
            if block.next > end:
                return
            yield block
            at, position = block.next, block.end


def _wrong_head(raw: bytes, position: int, length: int, frame_size: int) -> str | None:
    """Return what is wrong with the bytes before a block's frame, or None."""
    if raw != pack_block_head(position, length, frame_size):
        return f"no block begins there whose data is at {position}"
    if not 0 < length <= MAX_BLOCK:
        return f"it has {length} bytes: a block has 1 to {MAX_BLOCK}"
    if frame_size > max_frame(length):
        return f"its frame has {frame_size} bytes: {length} bytes need at most {max_frame(length)}"
    return None
