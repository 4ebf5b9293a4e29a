"""The images of a recording: create the missing ones, and check that both start with the same
data."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.disk.raw import make_raw
from tracer.driver.driver import Driver, Running
from tracer.errors import Undecidable, UsageError
from tracer.mirror.comparison import Comparison
from tracer.mirror.sweep import sweep
from tracer.op import SECTOR, Fault
from tracer.progress import bar
from tracer.recording.locks import Locks, one_at_a_time
from tracer.recording.options import RecordOptions
from tracer.trace.header import MAX_SIZE
from tracer.trace.payloads import payload_path


class Images:
    """The raw and the test image of a recording. An image that exists is used; otherwise it is
    created, and ``undo`` removes it. Both are locked.

    ``size`` is the disk's size in bytes. Raises UsageError if the images cannot be used or another
    recording uses them, DriverError if the driver cannot create the test image.
    """

    def __init__(self, options: RecordOptions, locks: Locks, undo: ExitStack) -> None:
        stem = options.trace.with_suffix("")
        self.raw = options.raw or stem.with_suffix(".raw")
        self.test = options.image or stem.with_suffix(f".test.{options.driver.suffix}")
        self._locks = locks
        self._new: list[Path] = []
        self.size = options.size
        driver = options.driver
        outputs = {options.trace.resolve(), payload_path(options.trace).resolve()}
        for image in (self.raw, self.test) if driver.owns_image else (self.raw,):
            if image.resolve() in outputs:
                raise UsageError(f"{image} cannot be both an image and the trace or its payloads")
        if driver.owns_image and self.test.resolve() == self.raw.resolve():
            raise UsageError(f"{self.raw} cannot be both the raw and the test image")
        if driver.fixed_image is not None:
            locks.take(driver.fixed_image)
        undo.callback(self.remove_new)
        if self.raw.exists():
            self.size = self.raw.stat().st_size
        elif not driver.owns_image:
            self.size = self._served_size(driver)
        if not 0 < self.size <= MAX_SIZE or self.size % SECTOR:
            raise UsageError(
                f"the disk's size, {self.size} bytes, must be a multiple of {SECTOR} above 0, "
                "and at most 4 EiB"
            )
        self._get(self.raw, make_raw)
        if driver.owns_image:
            self._get(self.test, driver.create_image)

    def _get(self, image: Path, create: Callable[[Path, int], None]) -> None:
        """Lock an image; create it if it does not exist."""
        with one_at_a_time(image.parent):
            if not image.exists():
                self._new.append(image)
                create(image, self.size)
            self._locks.take(image)

    def _served_size(self, driver: Driver) -> int:
        with Loop() as loop, driver.start(loop, self.test, 0) as running:
            return running.device.export.size

    def remove_new(self) -> None:
        """Remove the images that were created, because the recording did not start."""
        for path in self._new:
            path.unlink(missing_ok=True)


def compare_start(
    loop: Loop, reference: FileDevice, running: Running, comparison: Comparison
) -> None:
    """Compare both images. Raises UsageError if they differ, Undecidable if the driver cannot read
    the test image."""
    with bar("comparing the images", reference.export.size) as progress:
        start = sweep(loop, reference, running.device, comparison, progress=progress)
    if start.first is None:
        return
    if start.first.fault in (Fault.STATUS, Fault.LOST):
        raise Undecidable(
            f"{running.driver.name} cannot read its image at sector {start.first.offset // SECTOR}"
        )
    raise UsageError(
        f"the raw and the test image differ, first in sector {start.first.offset // SECTOR}: make "
        "them equal (qemu-img convert), or give --trust-start to skip this comparison"
    )
