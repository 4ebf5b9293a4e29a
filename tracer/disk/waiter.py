"""Wait for a device with a timeout, for code that needs an answer before it goes on."""

import time

from tracer.disk.loop import Loop
from tracer.errors import DriverHung


class Waiter:
    """Runs the event loop until something happens, at most for ``timeout`` seconds."""

    def __init__(self, loop: Loop, timeout: float) -> None:
        self._loop = loop
        self._timeout = timeout

    def __call__(self, what: str) -> None:
        """Wait for one round of events. Raises DriverHung, with ``what`` in its message."""
        deadline = time.monotonic() + self._timeout
        while not self._loop.poll(max(0.0, deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                raise DriverHung(f"the driver did not answer {what} within {self._timeout:g} s")
