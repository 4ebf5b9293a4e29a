"""One run of a trace on a build: a fresh image, the ops, the comparisons afterwards."""

import shutil
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
from tracer.errors import DriverError, DriverHung, StorageError, Undecidable, UsageError
from tracer.loop import Loop
from tracer.op import SECTOR
from tracer.progress import bar
from tracer.ranges import RangeSet
from tracer.source import Source
from tracer.sweep import Sweep, sweep

ROOM = 16 << 20
"""Bytes free on the images' file system below which a failure is blamed on it, not on the driver."""

PIECE = 1 << 20
"""Bytes of the reference that are looked at at once."""


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


@dataclass(slots=True)
class Runner:
    """Runs prefixes of a trace, each from scratch, and counts what that costs."""

    source: Source
    driver: Driver
    work: Path
    depth: int | None = None
    timeout: float = 30.0
    keep: bool = False
    force: bool = False
    replayed: int = 0
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
    ) -> Outcome:
        """Play the first ``upto`` ops on a fresh image; then, unless ``compare`` is off, compare both
        images whole, stop and restart the driver, compare again, and check the image. Once something
        is wrong no more is looked at, unless this is to be ``thorough``.

        Raises Undecidable where the driver cannot be used with this trace.
        """
        self.runs += 1
        directory = self.work / label
        directory.mkdir(parents=True)
        try:
            return self._run(directory, label, upto, probe, compare, thorough)
        finally:
            if not self.keep:
                shutil.rmtree(directory, ignore_errors=True)

    def _run(
        self,
        directory: Path,
        label: str,
        upto: int | None,
        probe: Probe | None,
        compare: bool,
        thorough: bool,
    ) -> Outcome:
        size = self.source.trace.header.size
        driver = self.driver
        with ExitStack() as stack:
            loop = stack.enter_context(Loop())
            reference_path = directory / "reference.raw"
            image = directory / f"test.{driver.suffix}"
            make_raw(reference_path, size)
            reference = FileDevice(reference_path, durable=False)
            stack.callback(reference.close)
            if driver.owns_image:
                driver.create_image(image, size)
            running = stack.enter_context(driver.start(loop, image, size))
            comparison = Comparison(self.source.trace.header.trim)
            if not driver.owns_image:
                self._blank(loop, reference, running)
            total = min(self.source.trace.count, upto if upto is not None else 1 << 62)
            with bar(f"replaying ({label})", total, "ops") as progress:
                played = Player(
                    loop, self.source, reference, running.device, comparison, upto=upto,
                    depth=self.depth, timeout=self.timeout, probe=probe, progress=progress,
                ).play()  # fmt: skip
            self.replayed += played.replayed
            outcome = Outcome(played)
            self._blame_disk(outcome, directory)
            if self._gone(outcome, running) or played.hung or not compare:
                return outcome
            try:
                self._after(outcome, loop, reference, running, comparison, image, thorough)
            except DriverHung as error:
                outcome.gone = str(error)
            return outcome

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
        try:
            again = self.driver.start(loop, image, size)
        except DriverError as error:
            outcome.stop = f"starting again: {error}"
            outcome.log = error.log
            return
        with again:
            outcome.reopened = compare(again, "reopened")
            self._gone(outcome, again)
        if self.driver.may_forget and _nothing_survived(reference, outcome.reopened.damage):
            self.volatile = True
            outcome.reopened = None

    def _gone(self, outcome: Outcome, running: Running) -> bool:
        """Whether the driver went away; note how."""
        lost = running.device.lost
        if lost is None:
            return False
        outcome.log = running.log()
        outcome.gone = f"the driver went away ({running.exited() or lost})"
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
