"""Flush a disk and wait for the answer."""

from tracer.disk.device import Data, Device
from tracer.disk.loop import Loop
from tracer.disk.waiter import Waiter
from tracer.op import Extents, Kind


def flush(loop: Loop, device: Device, timeout: float) -> int:
    """Flush the device. Return its errno, 0 for success.

    Raises DriverHung if it does not answer within ``timeout`` seconds.
    """
    errors: list[int] = []

    def done(error: int, _data: Data | None, _extents: Extents) -> None:
        errors.append(error)

    device.submit(int(Kind.FLUSH), 0, 0, 0, None, done)
    device.kick()
    wait = Waiter(loop, timeout)
    while not errors:
        wait("a flush")
    return errors[0]
