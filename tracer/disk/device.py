"""A disk that takes requests: a file that we serve ourselves, or an NBD server's export.

``submit`` queues a request and ``kick`` sends what is queued, so that a burst is one system call.
``done(error, data, extents)`` is called once for each request, perhaps before ``submit`` returns:
an errno value (0 for success), the bytes of a read, the extents of a block status.
"""

import errno
from collections.abc import Callable
from typing import Protocol

from tracer.nbd import protocol as p
from tracer.op import Buffer, Extents

Data = bytes | bytearray
Done = Callable[[int, Data | None, Extents], None]

CONNECTION_LOST = errno.ENOTCONN
"""The errno of requests that were in flight when the driver went away. No server can send it."""


class Device(Protocol):
    """A disk that takes requests."""

    export: p.Export
    lost: Exception | None

    def submit(
        self, kind: int, flags: int, offset: int, length: int, data: Buffer | None, done: Done
    ) -> None: ...
    def kick(self) -> None: ...
    def close(self) -> None: ...
