"""What a server answers to one request, put together from the chunks of its reply."""

import errno
from dataclasses import dataclass, field

from tracer.errors import NbdError
from tracer.nbd import protocol as p
from tracer.op import Extents, Kind

MAX_SLACK = 64 * 1024
"""The most bytes that a structured chunk may have besides data. An error's message has at most
4,096, and the server may add more after it."""

MAX_STATUS = p.U32.size + (1 << 20) * p.EXTENT.size
"""The longest block status chunk, in bytes. nbdkit sends up to 1,048,576 extents
(server/extents.c), qemu up to 131,072 (nbd/server.c)."""

MAX_EXTENTS = 16 * 1024
"""The most extents that are kept of a reply: each takes about 100 bytes, and a request for each of
MAX_OPS may be in flight. A block status may end early ("Block status"): whoever asks for more, asks
again."""

MAX_EMPTY = 1024
"""The most chunks of a reply that bring nothing new, errors or nothing at all. A server may send an
error for each of its blocks, and no real one comes near."""


@dataclass(slots=True)
class Answer:
    """An answer that is not complete: what was asked for, and what has arrived so far."""

    kind: int
    offset: int
    length: int
    error: int = 0
    data: bytes | bytearray | None = None
    extents: Extents = field(default_factory=list)
    _covered: int = 0
    _empty: int = 0  # chunks

    def room(self, chunk: int) -> int:
        """Return the most bytes that a chunk of this type may have."""
        if self.kind == Kind.READ and chunk == p.ReplyType.OFFSET_DATA:
            return MAX_SLACK + self.length
        if self.kind == Kind.BLOCK_STATUS and chunk == p.ReplyType.BLOCK_STATUS:
            return MAX_SLACK + MAX_STATUS
        return MAX_SLACK

    def take(self, chunk: int, body: bytes | bytearray) -> int:
        """Take a chunk of any type but OFFSET_DATA. Return how many bytes of the disk it is about.
        Raises NbdError if it is malformed, or brings nothing too often."""
        if chunk == p.ReplyType.OFFSET_HOLE:
            expect(len(body) == p.HOLE.size, "a malformed hole chunk")
            offset, size = p.HOLE.unpack(body)
            return self.fill(offset, size, None)
        if chunk == p.ReplyType.BLOCK_STATUS:
            return self._take_status(body)
        self._empty += 1
        expect(self._empty <= MAX_EMPTY, f"more than {MAX_EMPTY} chunks without data in a reply")
        if chunk == p.ReplyType.NONE:
            expect(not body, "a chunk of type NONE with a payload")
        elif chunk & p.REPLY_ERROR:
            expect(len(body) >= p.CHUNK_ERROR.size, "a malformed error chunk")
            error, _ = p.CHUNK_ERROR.unpack_from(body)
            self.error = errno_of(error) or errno.EIO
        else:
            raise NbdError(f"server sent an unknown type of chunk ({chunk})")
        return 0

    def fill(self, offset: int, size: int, data: bytes | bytearray | None) -> int:
        """Put a piece of a read in its place. ``data`` is None for zeroes. Returns ``size``."""
        expect(self.kind == Kind.READ, "read data where none was asked for")
        start = offset - self.offset
        inside = size > 0 and start >= 0 and start + size <= self.length
        expect(inside and self._covered + size <= self.length, "read data out of bounds")
        self._covered += size
        if size == self.length and data is not None:
            self.data = data
            return size
        if not isinstance(self.data, bytearray):
            self.data = bytearray(self.length)
        if data is not None:
            self.data[start : start + size] = data
        return size

    def complete(self) -> None:
        """Note that the last chunk has come. Raises NbdError if something is missing."""
        if self.kind == Kind.READ and not self.error:
            whole = self._covered == self.length
            expect(whole, "a read reply that does not cover the whole read")
        if self.kind == Kind.BLOCK_STATUS and not self.error:
            expect(bool(self.extents), "a block status reply without an extent")

    def _take_status(self, body: bytes | bytearray) -> int:
        """Take the extents up to the end of what was asked for, but at most MAX_EXTENTS."""
        expect(self.kind == Kind.BLOCK_STATUS, "block status where none was asked for")
        expect(not self.extents, "block status twice in a reply")
        expect(len(body) >= 12 and len(body) % 8 == 4, "a malformed block status chunk")
        covered = 0
        for length, state in p.EXTENT.iter_unpack(memoryview(body)[4:]):
            expect(length > 0, "an empty block status extent")
            self.extents.append((length, state))
            covered += length
            if covered >= self.length or len(self.extents) == MAX_EXTENTS:
                break
        return min(covered, self.length)


def errno_of(wire: int) -> int:
    """Return the errno value of an error on the wire; 0 for success."""
    return p.ERRNO_BY_WIRE.get(wire, errno.EINVAL) if wire else 0


def expect(condition: bool, otherwise: str) -> None:
    """Raise NbdError unless ``condition`` holds: the server sent ``otherwise``."""
    if not condition:
        raise NbdError(f"server sent {otherwise}")
