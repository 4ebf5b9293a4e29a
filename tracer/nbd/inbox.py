"""Received bytes, with as few copies as Python allows.

The owner asks ``target()`` where the next bytes go, receives into it, and says how many came with
``received(n)``. Headers and small payloads share one reusable buffer, so a burst of requests is one
system call; a payload that has not wholly arrived gets a buffer of its own and is received in place.
"""

CAPACITY = 256 * 1024
"""Bytes in the shared buffer: a unix socket's default send buffer (208 KiB) in one receive."""


class Inbox:
    """A receive buffer with a read position."""

    __slots__ = ("_filled", "_payload", "buffer", "end", "start", "view")

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.buffer = bytearray(capacity)
        self.view = memoryview(self.buffer)
        self.start = 0
        self.end = 0
        self._payload: bytearray | None = None
        self._filled = 0

    def target(self) -> memoryview:
        """Where the next bytes are to be received. Never empty."""
        if self._payload is not None:
            return memoryview(self._payload)[self._filled :]
        if self.start == self.end:
            self.start = self.end = 0
        elif self.end == len(self.buffer):
            rest = self.end - self.start
            self.buffer[:rest] = self.buffer[self.start : self.end]
            self.start, self.end = 0, rest
        return self.view[self.end :]

    def received(self, count: int) -> None:
        """Say that ``count`` bytes were put into ``target()``."""
        if self._payload is not None:
            self._filled += count
        else:
            self.end += count

    @property
    def available(self) -> int:
        """Bytes in the shared buffer that were not taken."""
        return self.end - self.start

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes, which must be available."""
        data = bytes(self.view[self.start : self.start + count])
        self.start += count
        return data

    def payload(self, length: int) -> bytes | bytearray | None:
        """The next ``length`` bytes, or None while they have not all arrived: then call again, with
        the same length, after more have."""
        payload = self._payload
        if payload is None:
            if self.end - self.start >= length:
                return self.take(length)
            payload = self._payload = bytearray(length)
            self._filled = self.end - self.start
            payload[: self._filled] = self.view[self.start : self.end]
            self.start = self.end
        if self._filled < length:
            return None
        self._payload = None
        return payload
