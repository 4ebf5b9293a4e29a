"""The payload store beside a trace: the written data, compressed, each distinct payload once.

The store is an append-only stream of bytes, cut into blocks that are compressed separately. While
a recording's thread cannot keep up, blocks are stored as they are, in frames that zstd reads too. A
payload is identified by its position in the uncompressed stream. The position is known before the
data is written: the recorder puts it into the op's record and leaves compression to a thread. The
file (docs/trace-format.md) is a msgpack header map, then an array ``[position, length, zstd
frame]`` per block, so any prefix of the file reads back. The
reader is in tracer/trace/payload_reader.py.
"""

import os
import queue
import struct
import threading
import time
from pathlib import Path

import msgpack
import zstandard

from tracer.errors import StorageError, UsageError
from tracer.files import PRIVATE
from tracer.op import NO_PAYLOAD, ZERO_DIGEST, Buffer
from tracer.trace.stored import stored_frame

FORMAT = "blkbox-payloads"
VERSION = 1
SUFFIX = ".payloads"

BLOCK = 1 << 20
"""Uncompressed bytes after which a block is closed: large enough to compress well, small enough for
reading a single payload."""

MAX_BLOCK = BLOCK + 32 * 1024 * 1024
"""The most uncompressed bytes in a block: a block is closed as soon as it holds BLOCK bytes, and no
payload is larger than 32 MiB. The reader refuses a larger block before it allocates memory."""

LEVEL = -1
"""The zstd level. On the writes of a Debian installation, level -1 compresses to 40 % at 660 MB/s,
level 1 to 36 % at 500 MB/s; the compressing thread competes with the driver for cores. Frames have
no checksum, because payloads have digests."""

LINGER = 0.02
"""Seconds after which a block is closed even if it is not full."""

KNOWN = 1 << 18
"""Digests remembered, so that a payload is stored once: 262,144 take about 40 MB. When more come,
all are forgotten, and a payload may be stored again."""

BEHIND = 32 << 20
"""Uncompressed bytes that may wait before a writer in a hurry stops compressing: half of what may
wait at all, so that bursts are compressed and the guest is not held back. With 8 MiB, copying a
disk to qcow2 stored 53 % more bytes than with compression alone, with 32 MiB 11 %, at the same
speed."""

CALM = 0.002
"""Seconds without a new block after which it compresses again: fewer than 500 MB/s come then, about
what compression can do. If it began again as soon as nothing waits, the thread would take a whole
core as long as the load lasts, and the guest would have to do without that core."""

QUEUE_LIMIT = 64 << 20
"""Uncompressed bytes that may wait for the thread. Beyond that ``full`` is true, and the caller
should hold the guest back."""

BLOCK_HEAD = struct.Struct(">BBQBIBI")
"""The bytes before a block's frame, as msgpack in its widest types: array of 3 (0x93), uint64
(0xcf) position, uint32 (0xce) length, bin32 (0xc6) with the frame's size. So a single read finds
the next block."""


def pack_block_head(position: int, length: int, frame_size: int) -> bytes:
    """Return the bytes before a block's frame."""
    return BLOCK_HEAD.pack(0x93, 0xCF, position, 0xCE, length, 0xC6, frame_size)


def payload_path(trace: Path) -> Path:
    """Return the path of a trace's payload store: ``install.payloads`` for ``install.trace``."""
    return trace.with_suffix(SUFFIX)


def new_payload_path(trace: Path) -> Path:
    """Return the ``payload_path`` of a new trace. Raises UsageError if it is the trace's own
    path."""
    path = payload_path(trace)
    if path == trace:
        raise UsageError(f"{trace} is the name of a payload store: call the trace NAME.trace")
    return path


def max_frame(length: int) -> int:
    """Return the most bytes of a frame that holds ``length`` bytes.

    zstd's own bound for data that it cannot compress is ``length + length / 256`` and at most 64
    (ZSTD_compressBound in zstd.h); a stored frame has 3 for each 128 KiB, and 9.
    """
    return length + length // 256 + 128


class PayloadWriter:
    """Creates a payload store. A thread compresses and writes the payloads.

    With ``hurry``, blocks are stored as they are while the thread cannot keep up.
    """

    def __init__(self, path: Path, trace_id: str, *, hurry: bool = False) -> None:
        self.path = path
        self._hurry = hurry
        self.error: StorageError | None = None
        """Why the thread could not write. After an error nothing more is stored."""
        self._position = 0
        self._known: dict[bytes, int] = {}
        self._block: list[bytes | bytearray] = []
        self._block_size = 0
        self._block_started = 0.0
        self._queue: queue.SimpleQueue[list[bytes | bytearray] | threading.Event] = (
            queue.SimpleQueue()
        )
        self._written = 0
        self._behind = False
        header = {"format": FORMAT, "version": VERSION, "trace": trace_id, "codec": "zstd"}
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE)
            self._file = os.fdopen(fd, "wb", buffering=0)
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
        """Store a payload unless it is stored already; return its position, or NO_PAYLOAD for
        zeroes.

        The caller must not change ``data`` afterwards.
        """
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
        # once per block: waking the thread for each payload would cost more than all the rest
        if self._block_size >= BLOCK:
            self._hand_over()
        return position

    @property
    def waiting(self) -> bool:
        """Whether a block is open, which ``tick`` must close."""
        return bool(self._block)

    def tick(self) -> None:
        """Close the open block if it is LINGER seconds old. Call this about every LINGER seconds
        while ``waiting``."""
        if self._block and time.monotonic() - self._block_started >= LINGER:
            self._hand_over()

    @property
    def full(self) -> bool:
        """Whether more than QUEUE_LIMIT bytes wait for the thread."""
        return self._position - self._written > QUEUE_LIMIT

    def wait_for_room(self) -> None:
        """Wait while ``full``. Returns even after a write error: the queue still drains."""
        while self.full:
            time.sleep(0.01)

    def close(self) -> None:
        """Write all payloads and close the file. Closing twice is harmless. Raises StorageError if
        a payload could not be written."""
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
        """Wait until all payloads are on the disk. If that fails, ``error`` says why."""
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
        """Compress and write blocks, in the thread, until an empty block comes."""
        compressor = zstandard.ZstdCompressor(level=LEVEL)
        while block := self._next():
            if isinstance(block, threading.Event):
                self._sync()
                block.set()
                continue
            data = block[0] if len(block) == 1 else b"".join(block)
            if self.error is None:
                if self._behind:
                    frame, size = stored_frame(data)
                else:
                    compressed = compressor.compress(data)
                    frame, size = [compressed], len(compressed)
                try:
                    self._write(pack_block_head(self._written, len(data), size), *frame)
                except OSError as error:
                    self.error = self._failure(error)
            self._written += len(data)

    def _next(self) -> list[bytes | bytearray] | threading.Event:
        """Wait for a block, and note whether the thread keeps up. In the thread."""
        waited = time.monotonic()
        block = self._queue.get()
        if time.monotonic() - waited > CALM:
            self._behind = False
        elif self._hurry and self._position - self._written > BEHIND:
            self._behind = True
        return block

    def _write(self, *buffers: Buffer) -> None:
        written = os.writev(self._file.fileno(), buffers)
        if written < sum(map(len, buffers)):  # rare: the disk is nearly full
            view = memoryview(b"".join(buffers))[written:]
            while view:
                view = view[self._file.write(view) :]
