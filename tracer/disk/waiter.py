"""Wait for a device with a timeout, for code that needs an answer before it goes on."""

import time
from collections.abc import Callable

from tracer.disk.device import Data, Device
from tracer.disk.loop import Loop
from tracer.errors import DriverHung
from tracer.op import Buffer, Extents, Kind


class Waiter:
    """Runs the event loop until something happens, at most for ``timeout`` seconds without progress
    of the device: chunks of an answer that bring nothing do not count."""

    def __init__(self, loop: Loop, device: Device, timeout: float) -> None:
        self._loop = loop
        self._device = device
        self._timeout = timeout
        self._left = timeout
        self._progress = device.progress

    def __call__(self, what: str) -> None:
        """Wait for one round of events. Raises DriverHung, with ``what`` in its message."""
        started = time.monotonic()
        self._loop.poll(self._left)
        if self._device.progress != self._progress:
            self._progress = self._device.progress
            self._left = self._timeout
            return
        self._left -= time.monotonic() - started
        if self._left <= 0 and self._device.lost is None:
            raise DriverHung(f"the driver did not answer {what} within {self._timeout:g} s")
        self._left = max(self._left, 0.0)


def ask(
    wait: Callable[[str], None],
    device: Device,
    kind: Kind,
    offset: int,
    length: int,
    what: str,
    data: Buffer | None = None,
) -> tuple[int, Data | None, Extents]:
    """Send a request without flags; return the arguments of its ``done``.

    ``wait`` runs the loop until something happens, and raises an exception if it takes too long, as
    a Waiter does. ``what`` names the request there.
    """
    answer: list[tuple[int, Data | None, Extents]] = []

    def done(error: int, found: Data | None, extents: Extents) -> None:
        answer.append((error, found, extents))

    device.submit(int(kind), 0, offset, length, data, done)
    device.kick()
    while not answer:
        wait(what)
    return answer[0]
