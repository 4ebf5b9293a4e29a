"""The images of a recording: create the missing ones, and check that both start with the same
data."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tracer.disk import sparse
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.disk.raw import copy_raw, make_raw
from tracer.driver.driver import Driver, Running
from tracer.errors import Undecidable, UsageError
from tracer.files import check_file
from tracer.interrupts import held
from tracer.mirror.comparison import Comparison
from tracer.mirror.scope import Scope
from tracer.mirror.sweep import sweep
from tracer.op import SECTOR, Fault, TrimRule
from tracer.ranges import RangeSet
from tracer.recording.locks import Locks, one_at_a_time
from tracer.recording.options import RecordOptions
from tracer.trace.header import MAX_SIZE
from tracer.trace.payloads import payload_path
from tracer.verdict import Compared

DEFAULT_SIZE = 16 << 30
"""The size of a new disk in bytes, if nobody says otherwise."""


class Images:
    """The raw and the test image of a recording, and the backing file if the driver names one. A
    file that exists is used; otherwise it is created, the backing file as a copy of the raw image,
    and ``undo`` removes it. All are locked.

    ``driver`` is the driver with that backing file.
    ``size`` is the disk's size in bytes. Raises UsageError if the images cannot be used or another
    recording uses them, DriverError if the driver cannot create the test image.
    """

    def __init__(self, options: RecordOptions, locks: Locks, undo: ExitStack) -> None:
        stem = options.trace.with_suffix("")
        self.raw = options.raw or stem.with_suffix(".raw")
        self.test = options.image or stem.with_suffix(f".test.{options.driver.suffix}")
        if options.driver.absent:
            if options.image is not None:
                raise UsageError("--driver none uses no test image: leave out --image")
            self.test = self.raw
        self._locks = locks
        self._new: list[Path] = []
        self._old: list[tuple[Path, Path]] = []
        self.size = DEFAULT_SIZE if options.size is None else options.size
        driver = self.driver = options.driver
        outputs = {options.trace.resolve(), payload_path(options.trace).resolve()}
        for image in (self.raw, self.test) if driver.owns_image else (self.raw,):
            check_file(image)
            if image.resolve() in outputs:
                raise UsageError(f"{image} cannot be both an image and the trace or its payloads")
        if driver.owns_image and self.test.resolve() == self.raw.resolve():
            raise UsageError(f"{self.raw} cannot be both the raw and the test image")
        if driver.fixed_image is not None:
            locks.take(driver.fixed_image)
        undo.callback(self._restore_old)
        undo.callback(self._remove_new)
        base, based = stem.with_suffix(".base.raw").absolute(), driver.names_base
        if options.fresh:
            self._set_aside(
                [self.raw, *([self.test] if driver.owns_image else []), *([base] if based else [])]
            )
        if self.raw.exists():
            self.size = self.raw.stat().st_size
        elif not driver.owns_image and not driver.absent:
            self.size = self._served_size(driver)
        if options.scope.leaves_noise(self.size):
            driver = driver.left_noisy()
        if not 0 <= self.size <= MAX_SIZE:
            raise UsageError(f"no disk has {self.size} bytes: give 0 to 4 EiB")
        self._get(self.raw, make_raw)
        if options.size not in (None, self.size):
            holder = driver.name if self.raw in self._new else self.raw
            remedy = "" if self.raw in self._new else ", or give --fresh to make new images"
            raise UsageError(
                f"{holder} has a disk of {self.size} bytes, not of {options.size}: leave out "
                f"--size to use that disk{remedy}"
            )
        if based:
            self._get(base, lambda path, _: copy_raw(self.raw, path))
            driver = driver.backed_by(base)
        self.driver = driver
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
        with Loop() as loop, driver.start(loop, self.test, None) as running:
            return running.device.export.size

    def comparison(self, trim: TrimRule, reference: FileDevice) -> Comparison:
        """Return what may differ at the start: nothing, or, if the driver's images hold noise where
        nothing was written, the reference's holes. Raises OSError."""
        comparison = Comparison(trim)
        if self.driver.noisy:
            pieces = sparse.extents(reference.fd, 0, self.size)
            comparison.unknown = RangeSet((start, end) for start, end, data in pieces if not data)
        return comparison

    @property
    def test_is_new(self) -> bool:
        """Whether the test image was made for this recording."""
        return self.test in self._new

    @property
    def both_new(self) -> bool:
        """Whether both images were made for this recording."""
        return self.raw in self._new and self.test_is_new

    @property
    def files(self) -> list[Path]:
        """The images that are files of ours."""
        return [self.raw, *([self.test] if self.driver.owns_image else [])]

    @property
    def made(self) -> list[Path]:
        """The images that were made for this recording."""
        return list(self._new)

    def begin(self) -> None:
        """Remove the images that new ones replace: the recording has begun."""
        for _, aside in self._old:
            aside.unlink(missing_ok=True)

    def _set_aside(self, images: list[Path]) -> None:
        """Rename the images that exist, so that new ones can take their names."""
        for image in dict.fromkeys(images):
            if image.is_file():
                self._locks.take(image)
                aside = image.with_name(f".{image.name}.old")
                with held():
                    image.rename(aside)
                    self._old.append((image, aside))

    def _restore_old(self) -> None:
        for image, aside in self._old:
            aside.replace(image)

    def _remove_new(self) -> None:
        """Remove the images that were created, because the recording did not start."""
        for path in self._new:
            path.unlink(missing_ok=True)


def compare_start(
    loop: Loop,
    reference: FileDevice,
    running: Running,
    comparison: Comparison,
    scope: Scope,
    *,
    both_new: bool = False,
) -> Compared | None:
    """Compare both images. Return what was compared. Raises UsageError if they differ; Undecidable
    if the driver cannot read the test image, or if both are new: then nobody else made them
    differ."""
    start = sweep(loop, reference, running.device, comparison, scope=scope)
    if start.failed is not None:
        raise Undecidable(f"{running.driver.name}: {start.failed}")
    if start.first is None:
        return start.compared
    if start.first.fault is Fault.STATUS:
        raise Undecidable(
            f"{running.driver.name} cannot read its image at sector {start.first.offset // SECTOR}"
        )
    if both_new:
        raise Undecidable(
            f"{running.driver.name}: a new image does not read as zeroes, first in sector "
            f"{start.first.offset // SECTOR}"
        )
    raise UsageError(
        f"the raw and the test image differ, first in sector {start.first.offset // SECTOR}: make "
        "them equal (qemu-img convert), or give --trust-start to skip this comparison"
    )
