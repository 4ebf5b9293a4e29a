"""Make a new test image read as zeroes, by writing zeroes through its driver."""

from collections.abc import Iterator

from tracer.disk.device import LONG_REQUEST, Device
from tracer.disk.loop import Loop
from tracer.disk.waiter import Waiter, ask
from tracer.errors import DriverError
from tracer.op import SECTOR, Kind
from tracer.ranges import RangeSet


def make_blank(loop: Loop, device: Device, timeout: float, where: RangeSet | None = None) -> None:
    """Write zeroes to the whole device, or to the ranges ``where``, widened to its block size.

    Raises DriverError if a request fails, DriverHung if it does not answer for ``timeout`` s.
    """
    wait = Waiter(loop, device, timeout)
    size = device.export.size
    disk = where if where is not None else RangeSet([(0, size)])
    for offset, length in _requests(disk.aligned(device.export.sizes.minimum), size):
        what = f"write zeroes at sector {offset // SECTOR}"
        error, _, _ = ask(wait, device, Kind.ZERO, offset, length, what)
        if error:
            raise DriverError(f"zeroing the disk failed (errno {error})")


def _requests(where: RangeSet, size: int) -> Iterator[tuple[int, int]]:
    """Yield the offset and the length of each request, within a disk of ``size`` bytes."""
    for start, end in where.within(0, size):
        for offset in range(start, end, LONG_REQUEST):
            yield offset, min(LONG_REQUEST, end - offset)
