"""Waits for a device, but not for ever."""

import time

from tracer.disk.loop import Loop
from tracer.errors import DriverHung

STATUS_STEP = 1 << 30
"""Bytes in a block status request: a multiple of every block size, and below NBD's 32 bits."""


class Waiter:
    """Waits for a device; raises DriverHung when nothing happens for ``timeout`` seconds."""

    def __init__(self, loop: Loop, timeout: float) -> None:
        self._loop = loop
        self._timeout = timeout

    def __call__(self, what: str) -> None:
        deadline = time.monotonic() + self._timeout
        while not self._loop.poll(max(0.0, deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                raise DriverHung(f"the driver did not answer {what} within {self._timeout:g} s")
