"""One run of a trace on a build: a fresh image, the ops, the comparisons afterwards."""

import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from replay.player import Played, Player, Probe
from tracer import sparse
from tracer.blank import make_blank
from tracer.compare import Comparison
from tracer.device import FileDevice
from tracer.digest import is_zero
from tracer.driver import Driver, Running, make_raw
from tracer.errors import DriverError, DriverHung, NbdError, StorageError, Undecidable, UsageError
from tracer.evidence import Evidence
from tracer.loop import Loop
from tracer.op import SECTOR
from tracer.progress import bar
from tracer.ranges import RangeSet
from tracer.source import TraceWithData
from tracer.sweep import Sweep, sweep

ROOM = 16 << 20
"""Bytes free on the images' file system below which a failure is blamed on it, not on the driver."""

PIECE = 1 << 20
"""Bytes of the reference that are looked at at once."""


@dataclass(frozen=True, slots=True)
class Saved:
    """Both images after the first ``position`` ops, with nothing wrong: a run can start from here."""

    position: int
    folder: Path
    comparison: Comparison


@dataclass(slots=True)
class Outcome:
    """What came of a run of the first ``ops`` ops."""

    played: Played
    live: Sweep | None = None
    """The images compared while the driver still served."""
    reopened: Sweep | None = None
    """The images compared after the driver was stopped and started again; None where that was not done,
    or tells nothing because the driver keeps nothing over a restart."""
    stop: str | None = None
    """What was wrong with how the driver stopped, or started again."""
    check: str | None = None
    """What the check command found."""
    gone: str | None = None
    """How the driver ended, if it did before it was asked to."""
    reader: str | None = None
    """The build that the image was reopened with, where that is another."""
    saved: "Saved | None" = None
    """The images, where they were to be kept and nothing was wrong."""
    log: str = ""

    @property
    def clean(self) -> bool:
        """Whether nothing at all was wrong."""
        played = self.played
        return not (
            played.faults or played.lost or played.hung or self.gone or self.stop or self.check
        ) and all(one is None or one.clean for one in (self.live, self.reopened))

    def damage(self) -> RangeSet:
        """Every byte range that was seen wrong, in whole sectors."""
        found = self.played.bad_reads.aligned(SECTOR)
        for one in (self.live, self.reopened):
            for start, end in one.damage if one is not None else ():
                found.add(start, end)
        return found

    def evidence(self) -> list[Evidence]:
        """What the images held where they are wrong now; of the live one if that is wrong, else of the
        one that was reopened. Not all of it where it is very much."""
        for one in (self.live, self.reopened):
            if one is not None and one.evidence:
                return sorted(one.evidence, key=lambda piece: piece.offset)
        return []


@dataclass(slots=True)
class Runner:
    """Runs prefixes of a trace and counts what that costs. With ``reader``, images are reopened with
    that build instead of the one that wrote them."""

    source: TraceWithData
    driver: Driver
    work: Path
    depth: int | None = None
    seed: int = 0
    """The order in which ops that were in flight together are sent; 0 is the recorded one."""
    timeout: float = 30.0
    keep: bool = False
    force: bool = False
    reader: Driver | None = None
    replayed: int = 0
    confirming: int = 0
    """How many of the ``replayed`` ops served to confirm a culprit that was found."""
    runs: int = 0
    volatile: bool = False
    """Whether the driver was seen to keep nothing of what was written over a restart."""
    _used: bool = field(default=False, repr=False)

    def run(
        self,
        label: str,
        *,
        upto: int | None = None,
        probe: Probe | None = None,
        compare: bool = True,
        thorough: bool = False,
        start: Saved | None = None,
        save: bool = False,
    ) -> Outcome:
        """Play the first ``upto`` ops on a fresh image; then, unless ``compare`` is off, compare both
        images whole, stop and restart the driver, compare again, and check the image. Once something
        is wrong no more is looked at, unless this is to be ``thorough``.

        With ``start`` the ops before it are not played: the images are taken from there. With ``save``
        they are kept if nothing is wrong, where that can be done. ``label`` names the run, and its
        folder. Raises Undecidable where the driver cannot be used with this trace.
        """
        self.runs += 1
        directory = self.work / label
        if start is not None or save:
            # always in the same place: images may name each other by their whole paths
            shutil.rmtree(directory, ignore_errors=True)
        elif directory.exists():
            directory = self.work / f"{label}-run-{self.runs}"
        if start is not None:
            shutil.copytree(start.folder, directory, symlinks=True, copy_function=sparse.copy)
        else:
            directory.mkdir(parents=True)
        try:
            outcome, comparison = self._run(directory, label, upto, probe, compare, thorough, start)
            if save and outcome.clean and self.can_save:
                folder = self.work / f"{label}-saved"
                shutil.rmtree(folder, ignore_errors=True)
                directory.rename(folder)
                outcome.saved = Saved(outcome.played.started, folder, comparison)
            return outcome
        finally:
            if not self.keep:
                shutil.rmtree(directory, ignore_errors=True)

    @property
    def can_save(self) -> bool:
        """Whether the images of a run are ours to keep, and hold all that the driver knows."""
        return self.driver.owns_image and not self.volatile

    def _run(
        self,
        directory: Path,
        label: str,
        upto: int | None,
        probe: Probe | None,
        compare: bool,
        thorough: bool,
        start: Saved | None,
    ) -> tuple[Outcome, Comparison]:
        size = self.source.trace.header.size
        driver = self.driver
        first = start.position if start is not None else 0
        with ExitStack() as stack:
            loop = stack.enter_context(Loop())
            reference_path = directory / "reference.raw"
            image = directory / f"test.{driver.suffix}"
            if start is None:
                make_raw(reference_path, size)
                if driver.owns_image:
                    driver.create_image(image, size)
            reference = stack.enter_context(FileDevice(reference_path, durable=False))
            running = stack.enter_context(driver.start(loop, image, size))
            comparison = Comparison(self.source.trace.header.trim)
            if start is not None:
                comparison = start.comparison.copy()
            if not driver.owns_image:
                self._blank(loop, reference, running)
            total = min(self.source.trace.count, upto if upto is not None else 1 << 62) - first
            with bar(f"replaying ({label})", total, "ops") as progress:
                played = Player(
                    loop, self.source, reference, running.device, comparison, upto=upto,
                    depth=self.depth, timeout=self.timeout, probe=probe, progress=progress,
                    first=first, seed=self.seed,
                ).play()  # fmt: skip
            self.replayed += played.replayed
            outcome = Outcome(played)
            self._blame_disk(outcome, directory)
            if self._gone(outcome, running) or played.hung or not compare:
                return outcome, comparison
            try:
                self._after(outcome, loop, reference, running, comparison, image, thorough)
            except DriverHung as error:
                outcome.gone = str(error)
            return outcome, comparison

    def try_reader(self) -> None:
        """See whether the reader opens a fresh image that the driver made: else nothing that it says
        later can be the driver's fault. Raises Undecidable, and UsageError where there is no image to
        share."""
        if self.reader is None:
            return
        if not (self.driver.owns_image and self.reader.owns_image):
            raise UsageError("--reopen-with needs two builds that work on an image file")
        size = self.source.trace.header.size
        with tempfile.TemporaryDirectory(prefix="blkbox-reader-") as folder, Loop() as loop:
            image = Path(folder) / f"test.{self.driver.suffix}"
            self.driver.create_image(image, size)
            reference = Path(folder) / "reference.raw"
            make_raw(reference, size)
            with self.reader.start(loop, image, size) as running, FileDevice(reference) as device:
                clean = sweep(loop, device, running.device, Comparison(), timeout=self.timeout).clean
        if not clean:
            raise Undecidable(
                f"{self.reader.name} does not read zeroes from a fresh image of {self.driver.name}"
            )

    def _after(
        self,
        outcome: Outcome,
        loop: Loop,
        reference: FileDevice,
        running: Running,
        comparison: Comparison,
        image: Path,
        thorough: bool,
    ) -> None:
        """All that is looked at once the ops are done."""
        size = reference.export.size

        def compare(device_of: Running, what: str) -> Sweep:
            with bar(f"comparing ({what})", size) as progress:
                return sweep(
                    loop, reference, device_of.device, comparison, progress=progress,
                    timeout=self.timeout,
                )  # fmt: skip

        # no flush before: it may be what does the damage, and then only as an op of the trace
        outcome.live = compare(running, "live")
        if self._gone(outcome, running) or not (thorough or outcome.clean):
            return
        outcome.log = running.log()
        problem = running.stop()
        if problem is not None:
            outcome.stop = f"stopping: {problem}"
            return
        if self.driver.owns_image:
            outcome.check = self.driver.check_image(image)
        if self.volatile:
            return
        reader = self.reader or self.driver
        outcome.reader = self.reader.name if self.reader is not None else None
        try:
            again = reader.start(loop, image, size)
        except DriverError as error:
            outcome.stop = f"starting again: {error}"
            outcome.log = error.log
            return
        with again:
            outcome.reopened = compare(again, "reopened")
            if not self._gone(outcome, again):
                again.stop()  # in good order, so that the image can be used again
        if self.driver.may_forget and _nothing_survived(reference, outcome.reopened.damage):
            self.volatile = True
            outcome.reopened = None

    def _gone(self, outcome: Outcome, running: Running) -> bool:
        """Whether the driver went away; note how."""
        lost = running.device.lost
        if lost is None:
            return False
        outcome.log = running.log()
        ended = running.exited()
        if ended is None and isinstance(lost, NbdError):
            outcome.gone = f"the driver broke the NBD protocol ({lost})"
        else:
            outcome.gone = f"the driver went away ({ended or lost})"
        return True

    def _blank(self, loop: Loop, reference: FileDevice, running: Running) -> None:
        """A trace starts on a disk of zeroes. A disk that is not ours to make anew must be one, or be
        made one with the user's leave; between our own runs it always is."""
        blank = sweep(loop, reference, running.device, Comparison(), timeout=self.timeout).clean
        if not blank and not (self.force or self._used):
            raise UsageError(
                f"{self.driver.name} does not read as zeroes, and replaying would overwrite what is "
                "there: give --force if that is meant"
            )
        self._used = True
        if blank:
            return
        make_blank(loop, running.device, self.timeout)
        if not sweep(loop, reference, running.device, Comparison(), timeout=self.timeout).clean:
            raise Undecidable(f"{self.driver.name} does not read as zeroes after being zeroed")

    def _blame_disk(self, outcome: Outcome, directory: Path) -> None:
        """A driver that fails because the disk with our images is full is not to blame."""
        if outcome.clean:
            return
        if shutil.disk_usage(directory).free < ROOM:
            raise StorageError(f"the file system with {directory} is full: make room, or set TMPDIR")


def _nothing_survived(reference: FileDevice, damage: RangeSet) -> bool:
    """Whether all that was written is damaged, so that there is nothing that a restart kept."""
    if not damage:
        return False
    for first, last, is_data in sparse.extents(reference.fd, 0, reference.export.size):
        for start, end in damage.outside(first, last) if is_data else ():
            for at in range(start, end, PIECE):
                if not is_zero(reference.read(at, min(PIECE, end - at))):
                    return False
    return True
