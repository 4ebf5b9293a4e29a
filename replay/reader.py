"""A reader: another build that reopens the images which the driver wrote."""

import tempfile
from contextlib import closing
from pathlib import Path

from replay.options import ReplayOptions
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.disk.raw import make_raw
from tracer.errors import Undecidable, UsageError
from tracer.mirror.comparison import Comparison
from tracer.mirror.sweep import sweep


def try_reader(options: ReplayOptions, size: int) -> None:
    """Check that the reader, if there is one, opens a fresh image of ``size`` bytes that the driver
    made: else what it reads later is not the driver's fault. Raises Undecidable if not, and
    UsageError if the two have no image to share."""
    driver, reader = options.driver, options.reader
    if reader is None:
        return
    if not (driver.owns_image and reader.owns_image):
        raise UsageError("--reopen-with needs two builds that work on an image file")
    with tempfile.TemporaryDirectory(prefix="blkbox-reader-") as folder, Loop() as loop:
        image, raw = Path(folder) / f"test.{driver.suffix}", Path(folder) / "reference.raw"
        driver.create_image(image, size)
        make_raw(raw, size)
        with reader.start(loop, image, size) as running, closing(FileDevice(raw)) as reference:
            found = sweep(loop, reference, running.device, Comparison(), timeout=options.timeout)
    if not found.clean:
        raise Undecidable(f"{reader.name} does not read zeroes from a fresh image of {driver.name}")
