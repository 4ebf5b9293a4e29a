"""Make a new test image read as zeroes, by writing zeroes through its driver."""

from tracer.disk.device import LONG_REQUEST, Data, Device
from tracer.disk.loop import Loop
from tracer.disk.waiter import Waiter
from tracer.errors import DriverError
from tracer.op import SECTOR, Extents, Kind


def make_blank(loop: Loop, device: Device, timeout: float) -> None:
    """Write zeroes to the whole device.

    Raises DriverError if a request fails, DriverHung if it does not answer for ``timeout`` s.
    """
    wait = Waiter(loop, timeout)
    size = device.export.size
    for offset in range(0, size, LONG_REQUEST):
        answers: list[int] = []

        def done(
            error: int, _data: Data | None, _extents: Extents, answers: list[int] = answers
        ) -> None:
            answers.append(error)

        device.submit(int(Kind.ZERO), 0, offset, min(LONG_REQUEST, size - offset), None, done)
        device.kick()
        while not answers:
            wait(f"write zeroes at sector {offset // SECTOR}")
        if answers[0]:
            raise DriverError(f"zeroing the disk failed (errno {answers[0]})")
