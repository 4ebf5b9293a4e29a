"""Whether a driver keeps data over a restart, found out on an image of no other use.

Some drivers forget everything by design: a disk in memory, a filter that keeps changes in a
temporary file. For them a stop in the middle of a workload would prove nothing.
"""

from tracer.disk.loop import Loop
from tracer.disk.private import PrivateFolder, Use
from tracer.disk.waiter import Waiter, ask
from tracer.driver.driver import Driver
from tracer.errors import DriverHung, Undecidable
from tracer.op import Kind

BLOCK = 4096
"""Bytes that are written: a block of any driver."""

PATTERN = (b"blkbox " * BLOCK)[:BLOCK]
"""What is written."""

PATIENCE = 30.0
"""Seconds for each answer."""


def forgets(driver: Driver, loop: Loop, size: int) -> bool:
    """Return whether a disk of ``size`` bytes, written, flushed and started again, holds something
    else. A driver that cannot be used that way counts as one that forgets."""
    if not driver.may_forget:
        return False
    wanted = PATTERN[:size]
    try:
        with PrivateFolder(Use.REPLAY) as folder:
            image = folder.path / f"probe.{driver.suffix}"
            driver.create_image(image, size)
            with driver.start(loop, image, size) as running:
                wait = Waiter(loop, running.device, PATIENCE)
                done = ask(wait, running.device, Kind.WRITE, 0, len(wanted), "a write", wanted)
                flushed = ask(wait, running.device, Kind.FLUSH, 0, 0, "a flush")
                if done[0] or flushed[0] or running.stop() is not None:
                    return True
            with driver.start(loop, image, size) as running:
                wait = Waiter(loop, running.device, PATIENCE)
                error, found, _ = ask(wait, running.device, Kind.READ, 0, len(wanted), "a read")
                running.stop()
                return bool(error) or found != wanted
    except (Undecidable, DriverHung):
        return True
