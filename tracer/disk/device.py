"""The interface of a disk that takes requests: ``FileDevice`` and ``NbdDevice`` implement it.

``submit`` queues a request and ``kick`` sends the queue, so that a burst takes one system call.
``done(error, data, extents)`` is called once for each request, perhaps before ``submit`` returns.
It gets an errno value (0 for success), a read's bytes and a block status's extents.
"""

import errno
from collections.abc import Callable
from typing import Protocol

from tracer.nbd import protocol as p
from tracer.op import Buffer, Extents

Data = bytes | bytearray
"""The bytes that a read returns."""

Done = Callable[[int, Data | None, Extents], None]
"""Called when a request is done: ``done(error, data, extents)``."""

CONNECTION_LOST = errno.ENOTCONN
"""The errno of requests that got no reply before the connection was lost. No server can send it."""

LONG_REQUEST = 1 << 30
"""The length of a long request without data (block status, write zeroes), in bytes: a multiple of
every block size, and below the 32 bits of a length in NBD."""


class Device(Protocol):
    """A disk that takes requests."""

    export: p.Export
    """The disk's size, what it offers, and the limits on requests."""
    lost: Exception | None
    """Why the disk takes no more requests; None while it does."""

    @property
    def progress(self) -> int:
        """A number that grows as answers come. What brings nothing does not count."""
        ...

    @property
    def has_block_status(self) -> bool:
        """Whether block status says anything: without it, all counts as data."""
        ...

    def submit(
        self, kind: int, flags: int, offset: int, length: int, data: Buffer | None, done: Done
    ) -> None: ...
    def kick(self) -> None: ...
    def close(self) -> None: ...
