"""The payload store beside a trace: what was written, once per distinct content, compressed.

The store is one append-only stream of bytes, cut into blocks that are compressed alone. A payload's
place is its position in the uncompressed stream, known before it is written: the recorder puts it into
the op's record and leaves compression to a thread. The file (docs/trace-format.md) is a msgpack
header map, then one array ``[position, length, zstd frame]`` per block, so any prefix of it reads back.
"""

import os
import queue
import struct
import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgpack
import zstandard

from tracer.closing import Closing
from tracer.errors import StorageError, TraceError, UsageError
from tracer.op import NO_PAYLOAD, ZERO_DIGEST
from tracer.trace.header import MAX_HEADER, parse_header

FORMAT = "blkbox-payloads"
VERSION = 1
SUFFIX = ".payloads"

BLOCK = 1 << 20
"""Uncompressed bytes in a block, unless one payload is larger: large enough to compress well, small
enough to read one payload back from."""

MAX_BLOCK = BLOCK + 32 * 1024 * 1024
"""No block is larger: it is closed as soon as it holds BLOCK bytes, and no payload is larger than
32 MiB. A reader refuses more before taking memory."""

LEVEL = -1
"""zstd's level. On what a Debian install writes, -1 makes 0.40 of it at 660 MB/s, 1 makes 0.36 at 500;
the thread that does it takes a core from the driver. No checksum of its own: payloads have digests."""

LINGER = 0.02
"""Seconds that a block waits for more before it is closed though it is not full."""

KNOWN = 1 << 18
"""Digests remembered for storing a content once: 262,144 of them take about 40 MB. Beyond, the
memory starts over, and a content that comes again may be stored again."""

QUEUE_LIMIT = 64 << 20
"""Bytes that may wait for the thread; above, ``full`` asks the caller to hold the guest back."""

BLOCK_HEAD = struct.Struct(">BBQBIBI")
"""What precedes a block's frame, as msgpack in its widest types: array of 3 (0x93), uint64 (0xcf)
position, uint32 (0xce) length, bin32 (0xc6) of the frame's size. So one read finds the next block."""


def pack_block_head(position: int, length: int, frame_size: int) -> bytes:
    """The bytes that precede a frame."""
    return BLOCK_HEAD.pack(0x93, 0xCF, position, 0xCE, length, 0xC6, frame_size)


def payload_path(trace: Path) -> Path:
    """Where a trace's payloads are: ``install.trace`` has ``install.payloads``."""
    return trace.with_suffix(SUFFIX)


def new_payload_path(trace: Path) -> Path:
    """``payload_path`` for a trace to be made. Raises UsageError where that is the trace itself."""
    path = payload_path(trace)
    if path == trace:
        raise UsageError(f"{trace} is where its payloads would go: call it NAME.trace")
    return path


class PayloadWriter:
    """Appends payloads; compresses and writes them in a thread of its own."""

    def __init__(self, path: Path, trace_id: str) -> None:
        self.path = path
        self.error: StorageError | None = None
        """Why the thread could not write: nothing is stored from then on."""
        self._position = 0
        self._known: dict[bytes, int] = {}
        self._block: list[bytes | bytearray] = []
        self._block_size = 0
        self._block_started = 0.0
        self._queue: queue.SimpleQueue[list[bytes | bytearray] | threading.Event] = (
            queue.SimpleQueue()
        )
        self._written = 0
        header = {"format": FORMAT, "version": VERSION, "trace": trace_id, "codec": "zstd"}
        try:
            self._file = path.open("wb", buffering=0)
            try:
                self._write(msgpack.packb(header))
            except OSError:
                self._file.close()
                raise
        except OSError as error:
            raise self._failure(error) from error
        self._thread = threading.Thread(target=self._run, name="payloads", daemon=True)
        self._thread.start()

    def put(self, digest: bytes, data: bytes | bytearray) -> int:
        """Store a payload; return its position. The caller must not change ``data`` afterwards."""
        if digest == ZERO_DIGEST:
            return NO_PAYLOAD
        known = self._known.get(digest)
        if known is not None:
            return known
        if len(self._known) >= KNOWN:
            self._known.clear()
        position = self._position
        self._known[digest] = position
        self._position = position + len(data)
        if not self._block:
            self._block_started = time.monotonic()
        self._block.append(data)
        self._block_size += len(data)
        # one hand-over per block: waking the thread for every payload costs more than all the rest
        if self._block_size >= BLOCK:
            self._hand_over()
        return position

    @property
    def waiting(self) -> bool:
        """Whether there is a block that ``tick`` will have to close."""
        return bool(self._block)

    def tick(self) -> None:
        """Close a block that has waited long enough for more. Call it every LINGER seconds or so while
        ``waiting``."""
        if self._block and time.monotonic() - self._block_started >= LINGER:
            self._hand_over()

    @property
    def full(self) -> bool:
        """Whether too much waits to be written."""
        return self._position - self._written > QUEUE_LIMIT

    def wait_for_room(self) -> None:
        """Wait while it is full; even where nothing can be written any more that ends."""
        while self.full:
            time.sleep(0.01)

    def close(self) -> None:
        """Write all that was put; a second time does nothing. Raises StorageError if anything could not
        be written."""
        if self._file.closed:
            return
        if self._block:
            self._hand_over()
        self._queue.put([])
        self._thread.join()
        self._file.close()
        if self.error is not None:
            raise self.error

    def sync(self) -> None:
        """Wait until all that was put is on the disk. What goes wrong ends up in ``error``."""
        if self._block:
            self._hand_over()
        done = threading.Event()
        self._queue.put(done)
        done.wait()

    def _sync(self) -> None:
        try:
            os.fdatasync(self._file.fileno())
        except OSError as error:
            self.error = self.error or self._failure(error)

    def _failure(self, error: OSError) -> StorageError:
        return StorageError(f"cannot write {self.path}: {error.strerror}")

    def _hand_over(self) -> None:
        block, self._block, self._block_size = self._block, [], 0
        self._queue.put(block)

    def _run(self) -> None:
        """The thread: an empty block ends it."""
        compressor = zstandard.ZstdCompressor(level=LEVEL)
        while block := self._queue.get():
            if isinstance(block, threading.Event):
                self._sync()
                block.set()
                continue
            data = block[0] if len(block) == 1 else b"".join(block)
            if self.error is None:
                frame = compressor.compress(data)
                try:
                    self._write(pack_block_head(self._written, len(data), len(frame)) + frame)
                except OSError as error:
                    self.error = self._failure(error)
            self._written += len(data)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]


@dataclass(frozen=True, slots=True)
class _Block:
    position: int
    length: int
    frame_offset: int
    frame_size: int


class PayloadReader(Closing):
    """Reads payloads back by position. Keeps the last few blocks in memory."""

    CACHED = 8

    def __init__(self, path: Path, trace_id: str) -> None:
        self.path = path
        self.end = 0
        """The position after the last payload that is there."""
        self.torn = False
        """Whether the file ends within a block."""
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise TraceError(f"cannot open the payloads {path}: {error.strerror}") from error
        self._blocks: list[_Block] = []
        self._starts: list[int] = []
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._decompressor = zstandard.ZstdDecompressor()
        try:
            self._scan(trace_id)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise TraceError(f"cannot read the payloads {path}: {error.strerror}") from error
            raise

    def read(self, position: int, length: int) -> bytes:
        """A payload's bytes. Raises TraceError where they are not there or are damaged."""
        pieces = []
        while length:
            index = self._find(position)
            block, data = self._blocks[index], self._load(index)
            piece = data[position - block.position :][:length]
            pieces.append(piece)
            position += len(piece)
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def blocks(self, wanted: Callable[[int, int], bool]) -> Iterator[tuple[int, bytes]]:
        """The blocks in the order of the file, each with its position; those for whose position and
        length ``wanted`` is false are passed over. Raises TraceError. Takes memory for one block."""
        for block in self._blocks:
            if wanted(block.position, block.length):
                yield block.position, self._unpack(block)

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _find(self, position: int) -> int:
        index = bisect_right(self._starts, position) - 1
        if index < 0 or position >= self._blocks[index].position + self._blocks[index].length:
            raise TraceError(f"{self.path}: the payload at {position} is missing")
        return index

    def _load(self, index: int) -> bytes:
        data = self._cache.get(index)
        if data is not None:
            self._cache.move_to_end(index)
            return data
        data = self._unpack(self._blocks[index])
        self._cache[index] = data
        if len(self._cache) > self.CACHED:
            self._cache.popitem(last=False)
        return data

    def _unpack(self, block: _Block) -> bytes:
        try:
            frame = os.pread(self._fd, block.frame_size, block.frame_offset)
            # where a frame tells its size, zstd takes that much memory whatever limit it is given
            if zstandard.frame_content_size(frame) not in (-1, block.length):
                raise self._damaged(block)
            data = self._decompressor.decompress(frame, max_output_size=block.length)
        except zstandard.ZstdError as error:
            raise self._damaged(block) from error
        if len(data) != block.length:
            raise self._damaged(block)
        return data

    def _damaged(self, block: _Block) -> TraceError:
        return TraceError(f"{self.path}: the block at byte {block.frame_offset} is damaged")

    def _scan(self, trace_id: str) -> None:
        """Find the blocks, up to the last one that is whole."""
        head = os.pread(self._fd, MAX_HEADER, 0)
        header, at = parse_header(self.path, head, "a payload store", FORMAT, VERSION)
        if header.get("trace") != trace_id:
            raise TraceError(f"{self.path} belongs to another trace")
        end, position = os.fstat(self._fd).st_size, 0
        while at < end:
            raw = os.pread(self._fd, BLOCK_HEAD.size, at)
            if len(raw) < BLOCK_HEAD.size:
                break
            frame_size = BLOCK_HEAD.unpack(raw)[-1]
            length = BLOCK_HEAD.unpack(raw)[4]
            if raw != pack_block_head(position, length, frame_size) or length > MAX_BLOCK:
                raise TraceError(f"{self.path}: no block where one should be, at byte {at}")
            frame_at = at + BLOCK_HEAD.size
            if frame_at + frame_size > end:
                break
            self._blocks.append(_Block(position, length, frame_at, frame_size))
            self._starts.append(position)
            position += length
            at = frame_at + frame_size
        self.end = position
        self.torn = at != end
