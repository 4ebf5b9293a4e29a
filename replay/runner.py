"""One run of a trace on a build: a fresh image, the ops, then the stages of a shutdown.

runner = Runner(source, options)
outcome = runner.run(Run("full", order, upto=100))
runner.cost                         # of all runs so far
"""

import errno
import time
from dataclasses import replace
from pathlib import Path

from replay.cost import Cost, Purpose
from replay.folders import Folders
from replay.foreign import ForeignDisk
from replay.options import ReplayOptions
from replay.outcome import Outcome, Saved, Stage
from replay.player import Player, PlayOptions, Sides
from replay.run import Run
from replay.stages import Ending, until
from replay.start import plan
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.disk.room import SCRATCH_REMEDY, check_room
from tracer.driver.served import Served
from tracer.errors import DriverHung, Undecidable
from tracer.mirror.comparison import Comparison
from tracer.progress import bar, detail
from tracer.text import ops
from tracer.trace.data import TraceWithData
from tracer.verdict import Compared


class Runner:
    """Runs prefixes of a trace. Counts the cost, and remembers whether the driver keeps data.

    ``start.build`` comes before the first run. Raises UsageError if the driver cannot get the start
    data as the user wants, TraceError if the trace is damaged.
    """

    def __init__(self, source: TraceWithData, options: ReplayOptions) -> None:
        self.source = source
        self.start = plan(source, options)
        self.options = replace(options, driver=self.start.driver, reader=self.start.reader)
        self._folders = Folders(options.work, keep=options.keep)
        self._cost = Cost()
        self._volatile = False
        self._forgets: bool | None = None  # as Served.forgets
        self._compared: Compared | None = None
        self._note = ""
        self._foreign = ForeignDisk(source, options)

    @property
    def cost(self) -> Cost:
        """The cost of all runs so far."""
        return self._cost

    @property
    def first(self) -> int:
        """The position of the first op that a run on fresh images plays."""
        return self.start.ops

    @property
    def volatile(self) -> bool:
        """Whether a run showed that the driver keeps nothing over a restart."""
        return self._volatile

    @property
    def compared(self) -> Compared | None:
        """What the last comparison of the images after the whole trace read."""
        return self._compared

    @property
    def note(self) -> str:
        """What of the driver's offer was adjusted in the last run: a line, or nothing."""
        return self._note

    @property
    def can_save(self) -> bool:
        """Whether a run's images can be saved: they are our files, and hold the driver's state."""
        return self.options.driver.owns_image and not self._volatile

    def run(self, run: Run) -> Outcome:
        """Do a run, on fresh images or on saved images.

        Raises OutOfTime at the run's deadline, TraceError if the trace is damaged or incomplete,
        StorageError if our own disk fails or is full, UsageError if a foreign disk must not be
        overwritten, DriverHung if a probe is not answered in time, and Undecidable if the driver
        cannot be used with this trace.
        """
        self._cost += Cost(runs=1)
        comparison = Comparison(self.source.trace.header.trim)
        if self.options.driver.noisy:
            comparison.unknown.add(0, self.source.trace.header.size)
        if run.start is not None:
            comparison = run.start.comparison.copy()
        self.start.repair_base()
        if run.start is not None:
            folder = self._folders.restore(run.start.folder)
        else:
            folder = self._folders.new(run.label, saves=run.save)
        started = time.monotonic()
        try:
            outcome = self._execute(run, folder, comparison)
            if outcome.clean and self.start.base_changed():
                outcome = replace(outcome, check="the driver wrote to its backing file")
            detail(
                f"run {self._cost.runs} ({run.label}): {ops(outcome.replayed)}, "
                f"{time.monotonic() - started:.3f} s, {'clean' if outcome.clean else 'not clean'}"
            )
            if not outcome.clean:
                check_room(folder, SCRATCH_REMEDY)
            if run.save and _can_start_from(run, outcome) and self.can_save:
                kept = self._folders.save(folder, run.label)
                outcome = replace(outcome, saved=Saved(outcome.started, kept, comparison))
            return outcome
        except (Undecidable, DriverHung):
            check_room(folder, SCRATCH_REMEDY)
            raise
        finally:
            self._folders.done(folder, run.label)

    def _execute(self, run: Run, folder: Path, comparison: Comparison) -> Outcome:
        """Play the ops, then do the checks that the run asks for."""
        driver, size = self.options.driver, self.source.trace.header.size
        image, raw = folder / f"test.{driver.suffix}", folder / "reference.raw"
        if run.start is None:
            self.start.make_reference(raw)
            if driver.owns_image:
                driver.create_image(image, size)
        with (
            Loop() as loop,
            FileDevice(raw, durable=False) as reference,
            Served(driver, loop, image, size, self._forgets) as served,
        ):
            self._note = served.running.note
            sides = Sides(loop, reference, served.running.device, comparison, served)
            if not driver.owns_image:
                self._foreign.blank(sides)
            outcome = self._play(run, sides)
            running = served.running
            self._forgets = served.forgets
            sides = replace(sides, test=running.device)
            if not outcome.clean:
                check_room(folder, SCRATCH_REMEDY, _most_needed(outcome))
            ending = Ending(
                run, self.source, self.options, sides, running, image, self.start, self._volatile
            )
            outcome = ending.finish(outcome)
            self._volatile = self._volatile or outcome.volatile
            self._compared = outcome.compared() or self._compared
            return outcome

    def _play(self, run: Run, sides: Sides) -> Outcome:
        first = max(run.first, self.first)
        options = PlayOptions(
            order=run.order,
            first=first,
            upto=run.upto,
            timeout=self.options.timeout,
            probe=run.probe,
            allowed=self.options.allowed,
            stop_early=run.stop_early,
            connections=self.options.connections,
            restart_every=self.options.restart_every,
            hold=self.options.holds(self.source.trace.header.conflicts),
            as_recorded=not self.options.part,
            observe=self.options.observe if self._cost.runs == 1 else None,
        )
        total = max(min(self.source.trace.count, run.upto) - first, 0)
        played = 0

        def count(more: int) -> None:
            nonlocal played
            played += more
            progress(more)

        try:
            with bar(f"run {self._cost.runs} ({run.label})", total, "ops") as progress:
                return Player(self.source, sides, options).play(until(run.deadline, count))
        finally:
            confirming = run.purpose is Purpose.CONFIRM
            self._cost += Cost(ops=played, confirm_ops=played if confirming else 0)


def _can_start_from(run: Run, outcome: Outcome) -> bool:
    """Return whether a later run may start from the images of this run: it does not show what is
    sought, the driver was stopped in an orderly way, and the restart has lost nothing."""
    return outcome.stage >= Stage.CHECKED and not (
        run.shows(outcome) or outcome.gone or outcome.stop or outcome.forgot
    )


def _most_needed(outcome: Outcome) -> int:
    """Return the bytes of the largest op that failed with ENOSPC."""
    faults = (difference for _, difference in outcome.faults)
    return max((one.length for one in faults if one.actual_status == errno.ENOSPC), default=0)
