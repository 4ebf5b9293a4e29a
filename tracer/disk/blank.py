"""Make a disk read as zeroes, through its driver."""

from tracer.disk.device import Data, Device
from tracer.disk.loop import Loop
from tracer.disk.waiter import STATUS_STEP, Waiter
from tracer.errors import DriverError
from tracer.op import SECTOR, Extents, Kind


def make_blank(loop: Loop, device: Device, timeout: float) -> None:
    """Write zeroes to all of it. Raises DriverError, or DriverHung."""
    wait = Waiter(loop, timeout)
    size = device.export.size
    for offset in range(0, size, STATUS_STEP):
        answers: list[int] = []

        def done(
            error: int, _data: Data | None, _extents: Extents, answers: list[int] = answers
        ) -> None:
            answers.append(error)

        device.submit(int(Kind.ZERO), 0, offset, min(STATUS_STEP, size - offset), None, done)
        device.kick()
        while not answers:
            wait(f"write zeroes at sector {offset // SECTOR}")
        if answers[0]:
            raise DriverError(f"zeroing the disk failed (errno {answers[0]})")
