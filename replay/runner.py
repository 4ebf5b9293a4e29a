"""One run of a trace on a build: a fresh image, the ops, then the comparisons.

runner = Runner(source, options)
outcome = runner.run(Run("full", order, upto=100))
runner.cost                         # of all runs so far
"""

import errno
import shutil
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path

from replay.cost import Cost, Purpose
from replay.options import Order, ReplayOptions
from replay.outcome import Outcome, Saved
from replay.player import Player, PlayOptions, Probe, Sides
from tracer.digest import is_zero
from tracer.disk import sparse
from tracer.disk.blank import make_blank
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.disk.raw import make_raw
from tracer.disk.room import check_room
from tracer.driver.driver import Running
from tracer.errors import DriverError, DriverHung, NbdError, Undecidable, UsageError
from tracer.mirror.comparison import Comparison
from tracer.mirror.sweep import Sweep, sweep
from tracer.progress import bar
from tracer.ranges import RangeSet
from tracer.trace.data import TraceWithData

REMEDY = "make room, or set TMPDIR"

PIECE = 1 << 20
"""Bytes of the reference that are read at a time."""


class Checks(Enum):
    """How much is checked once the ops are done.

    The checks are, in this order: compare the whole images, stop the driver, run its check command,
    reopen the image, compare again.
    """

    NONE = auto()
    UNTIL_WRONG = auto()
    """Check until something is wrong."""
    ALL = auto()


@dataclass(frozen=True, slots=True)
class Run:
    """One run: which ops to play, from where, and what to check."""

    label: str
    """The name of the run and of its folder."""
    order: Order
    upto: int
    """Play the trace's first ``upto`` ops."""
    start: Saved | None = None
    """The images to start from; None is fresh images. The ops that they hold are not played."""
    save: bool = False
    """Whether to save the images if nothing is wrong and they can be saved."""
    probe: Probe | None = None
    """What to read while playing."""
    checks: Checks = Checks.UNTIL_WRONG
    purpose: Purpose = Purpose.SEARCH

    @property
    def first(self) -> int:
        """How many ops are skipped at the front."""
        return self.start.position if self.start is not None else 0


class Runner:
    """Runs prefixes of a trace. Counts the cost, and remembers whether the driver keeps data."""

    def __init__(self, source: TraceWithData, options: ReplayOptions) -> None:
        self.source = source
        self.options = options
        self._cost = Cost()
        self._volatile = False
        self._disk_is_ours = False  # a foreign disk was blank, or the user let us blank it

    @property
    def cost(self) -> Cost:
        """The cost of all runs so far."""
        return self._cost

    @property
    def volatile(self) -> bool:
        """Whether a run showed that the driver keeps nothing over a restart."""
        return self._volatile

    @property
    def can_save(self) -> bool:
        """Whether a run's images can be saved: they are our files, and hold the driver's state."""
        return self.options.driver.owns_image and not self._volatile

    def run(self, run: Run) -> Outcome:
        """Do a run, on fresh images or on saved images.

        Raises TraceError if the trace is damaged or incomplete, StorageError if our own disk fails
        or is full, UsageError if a foreign disk must not be overwritten, DriverHung if a probe is
        not answered in time, and Undecidable if the driver cannot be used with this trace.
        """
        self._cost += Cost(runs=1)
        comparison = Comparison(self.source.trace.header.trim)
        if run.start is not None:
            comparison = run.start.comparison.copy()
        folder = self._make_folder(run)
        try:
            outcome = self._execute(run, folder, comparison)
            if not outcome.clean:
                check_room(folder, REMEDY)
            if run.save and outcome.clean and self.can_save:
                kept = self.options.work / f"{run.label}-saved"
                shutil.rmtree(kept, ignore_errors=True)
                folder.rename(kept)
                outcome = replace(outcome, saved=Saved(outcome.started, kept, comparison))
            return outcome
        except (Undecidable, DriverHung):
            check_room(folder, REMEDY)
            raise
        finally:
            if not self.options.keep:
                shutil.rmtree(folder, ignore_errors=True)

    def _make_folder(self, run: Run) -> Path:
        """Make a new folder for a run, with a copy of the images that it starts from."""
        folder = self.options.work / run.label
        if run.start is not None or run.save:
            # always the same path: an image may refer to another by its absolute path
            shutil.rmtree(folder, ignore_errors=True)
        elif folder.exists():
            folder = self.options.work / f"{run.label}-run-{self._cost.runs}"
        if run.start is not None:
            shutil.copytree(run.start.folder, folder, symlinks=True, copy_function=sparse.copy)
        else:
            folder.mkdir(parents=True)
        return folder

    def _execute(self, run: Run, folder: Path, comparison: Comparison) -> Outcome:
        """Play the ops, then do the checks that the run asks for."""
        driver, size = self.options.driver, self.source.trace.header.size
        image, raw = folder / f"test.{driver.suffix}", folder / "reference.raw"
        if run.start is None:
            make_raw(raw, size)
            if driver.owns_image:
                driver.create_image(image, size)
        with (
            Loop() as loop,
            FileDevice(raw, durable=False) as reference,
            driver.start(loop, image, size) as running,
        ):
            sides = Sides(loop, reference, running.device, comparison)
            if not driver.owns_image:
                self._blank(sides)
            outcome = self._play(run, sides)
            if not outcome.clean:
                check_room(folder, REMEDY, _most_needed(outcome))
            outcome = _note_end(outcome, running)
            if outcome.gone or outcome.hung or run.checks is Checks.NONE:
                return outcome
            outcome = self._compare_live(outcome, sides, running)
            if outcome.gone or not (outcome.clean or run.checks is Checks.ALL):
                return outcome
            outcome = self._stop(outcome, running, image)
            if outcome.stop or self._volatile:
                return outcome
            return self._reopen(outcome, sides, image)

    def _play(self, run: Run, sides: Sides) -> Outcome:
        options = PlayOptions(
            order=run.order,
            first=run.first,
            upto=run.upto,
            timeout=self.options.timeout,
            probe=run.probe,
        )
        total = min(self.source.trace.count, run.upto) - run.first
        with bar(f"replaying ({run.label})", total, "ops") as progress:
            outcome = Player(self.source, sides, options).play(progress)
        confirming = run.purpose is Purpose.CONFIRM
        self._cost += Cost(ops=outcome.replayed, confirm_ops=outcome.replayed if confirming else 0)
        return outcome

    def _compare_live(self, outcome: Outcome, sides: Sides, running: Running) -> Outcome:
        # no flush first: a flush may itself do the damage, and then must be an op of the trace
        try:
            live = self._compare(sides, "live")
        except DriverHung as error:
            return replace(outcome, gone=str(error))
        return _note_end(replace(outcome, live=live), running)

    def _stop(self, outcome: Outcome, running: Running, image: Path) -> Outcome:
        """Stop the driver and run its check command."""
        outcome = replace(outcome, log=running.log())
        problem = running.stop()
        if problem is not None:
            return replace(outcome, stop=f"stopping: {problem}")
        if not self.options.driver.owns_image:
            return outcome
        return replace(outcome, check=self.options.driver.check_image(image))

    def _reopen(self, outcome: Outcome, sides: Sides, image: Path) -> Outcome:
        """Start the driver again, or the reader, and compare."""
        driver, reader = self.options.driver, self.options.reader
        outcome = replace(outcome, reader=reader.name if reader is not None else None)
        try:
            again = (reader or driver).start(sides.loop, image, sides.reference.export.size)
        except DriverError as error:
            return replace(outcome, stop=f"starting again: {error}", log=error.log)
        with again:
            try:
                reopened = self._compare(replace(sides, test=again.device), "reopened")
            except DriverHung as error:
                return replace(outcome, gone=str(error))
            outcome = _note_end(replace(outcome, reopened=reopened), again)
            if outcome.gone is None:
                again.stop()  # an orderly stop, so that a later run can start from the image
        if driver.may_forget and _nothing_survived(sides.reference, reopened.damage):
            self._volatile = True
            return replace(outcome, reopened=None)
        return outcome

    def _compare(self, sides: Sides, what: str) -> Sweep:
        """Compare the whole images. Raises DriverHung if the driver stops answering."""
        with bar(f"comparing ({what})", sides.reference.export.size) as progress:
            return sweep(
                sides.loop, sides.reference, sides.test, sides.comparison,
                progress=progress, timeout=self.options.timeout,
            )  # fmt: skip

    def _blank(self, sides: Sides) -> None:
        """Make sure that a foreign disk reads as zeroes, since a trace starts on zeroes.

        A disk with other data is overwritten only with ``force``, or if an earlier run of ours
        wrote that data. Raises UsageError if it must not be overwritten, and Undecidable if it
        does not read as zeroes after being zeroed.
        """
        name = self.options.driver.name
        blank = self._is_blank(sides)
        if not blank and not (self.options.force or self._disk_is_ours):
            raise UsageError(
                f"{name} does not read as zeroes, and a replay would overwrite its data: "
                "give --force to allow that"
            )
        self._disk_is_ours = True
        if blank:
            return
        make_blank(sides.loop, sides.test, self.options.timeout)
        if not self._is_blank(sides):
            raise Undecidable(f"{name} does not read as zeroes after being zeroed")

    def _is_blank(self, sides: Sides) -> bool:
        timeout = self.options.timeout
        return sweep(sides.loop, sides.reference, sides.test, Comparison(), timeout=timeout).clean


def _note_end(outcome: Outcome, running: Running) -> Outcome:
    """Return the outcome with how the driver ended, if it went away."""
    lost = running.device.lost
    if lost is None:
        return outcome
    log, ended = running.log(), running.exited()
    if ended is None and isinstance(lost, NbdError):
        gone = f"the driver broke the NBD protocol ({lost})"
    else:
        gone = f"the driver went away ({ended or lost})"
    return replace(outcome, gone=gone, log=log)


def _most_needed(outcome: Outcome) -> int:
    """Return the bytes of the largest op that failed with ENOSPC."""
    faults = (difference for _, difference in outcome.faults)
    return max((one.length for one in faults if one.actual_status == errno.ENOSPC), default=0)


def _nothing_survived(reference: FileDevice, damage: RangeSet) -> bool:
    """Return whether everything that was written is damaged: the restart kept none of the data."""
    if not damage:
        return False
    for first, last, is_data in sparse.extents(reference.fd, 0, reference.export.size):
        for start, end in damage.outside(first, last) if is_data else ():
            for at in range(start, end, PIECE):
                if not is_zero(reference.read(at, min(PIECE, end - at))):
                    return False
    return True
