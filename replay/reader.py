"""A reader: another build that reopens the images that the driver wrote."""

from replay.options import ReplayOptions
from replay.start import Start
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.disk.private import PrivateFolder, Use
from tracer.errors import Undecidable, UsageError
from tracer.mirror.comparison import Comparison
from tracer.mirror.sweep import sweep


def try_reader(options: ReplayOptions, start: Start) -> None:
    """Check that the reader, if there is one, reads a fresh image of the driver correctly.

    If it does not, a difference that it sees later is not the driver's fault. Raises Undecidable if
    the reader reads something else than the image starts with, and UsageError if one of the two
    builds does not work on an image file.
    """
    driver, reader = options.driver, options.reader
    if reader is None:
        return
    if not (driver.owns_image and reader.owns_image):
        raise UsageError("--reopen-with needs two builds that work on an image file")
    with PrivateFolder(Use.READER) as folder, Loop() as loop:
        image, raw = folder.path / f"test.{driver.suffix}", folder.path / "reference.raw"
        driver.create_image(image, start.size)
        start.make_reference(raw)
        with reader.start(loop, image, start.size) as running, FileDevice(raw) as reference:
            comparison = Comparison()
            if driver.noisy:
                comparison.unknown.add(0, start.size)
            found = sweep(
                loop, reference, running.device, comparison,
                scope=options.scope, timeout=options.timeout,
            )  # fmt: skip
    if not found.clean:
        held = "zeroes" if start.raw is None else "the start data"
        raise Undecidable(f"{reader.name} does not read {held} from a fresh image of {driver.name}")
