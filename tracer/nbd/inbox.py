"""A receive buffer for one connection that copies as little as possible.

The owner receives into ``target()`` and reports the number of bytes with ``received(count)``.
Headers and small payloads share one reusable buffer, so that one system call receives a burst of
requests. A payload that is not complete yet gets its own buffer and is received in place.
"""

CAPACITY = 256 * 1024
"""Bytes in the shared buffer: enough for a unix socket's default send buffer, 208 KiB."""


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
        """Return the memory for the next received bytes. It is never empty."""
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
        """Note that ``count`` bytes were received into ``target()``."""
        if self._payload is not None:
            self._filled += count
        else:
            self.end += count

    @property
    def available(self) -> int:
        """Bytes in the shared buffer that were received and not taken."""
        return self.end - self.start

    @property
    def partial(self) -> int:
        """Bytes of a payload that is not complete yet."""
        return self._filled if self._payload is not None else 0

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes. They must be available."""
        data = bytes(self.view[self.start : self.start + count])
        self.start += count
        return data

    def payload(self, length: int) -> bytes | bytearray | None:
        """Return the next ``length`` bytes, or None while some are missing.

        After None, receive more and call again with the same length.
        """
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
