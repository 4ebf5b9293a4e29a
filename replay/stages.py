"""The stages of a run once the ops are done: compare, flush, stop, check, reopen.

They are those of a guest's shutdown. Each stage adds to the outcome what it finds.
"""

import errno
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from replay.options import ReplayOptions
from replay.outcome import Outcome, Stage
from replay.player import Sides
from replay.restarts import changes
from replay.run import OutOfTime, Run
from replay.start import Start
from tracer.candidates.durable import Unflushed, broken_promises
from tracer.digest import is_zero
from tracer.disk import sparse
from tracer.disk.file import FileDevice
from tracer.disk.waiter import Waiter, ask
from tracer.driver.complaints import sanitizer_report
from tracer.driver.driver import Running
from tracer.errors import DriverError, DriverHung, NbdError
from tracer.mirror.found import Sweep
from tracer.mirror.sweep import sweep
from tracer.op import Kind
from tracer.ranges import RangeSet
from tracer.trace.data import TraceWithData

PIECE = 1 << 20
"""Bytes of the reference that are read at a time."""


@dataclass(frozen=True, slots=True)
class Ending:
    """A run whose ops are done, on a driver that still serves."""

    run: Run
    source: TraceWithData
    options: ReplayOptions
    sides: Sides
    running: Running
    image: Path
    start: Start
    volatile: bool
    """Whether the driver is known to keep nothing over a restart."""

    def finish(self, outcome: Outcome) -> Outcome:
        """Go through the stages until the run is over. Raises OutOfTime, StorageError."""
        if outcome.ended_at is not None:  # the driver is stopped
            return outcome
        outcome = note_end(outcome, self.running)
        for stage in (self._compare_live, self._flush, self._stop, self._reopen):
            if self.run.is_over(outcome):
                break
            outcome = stage(outcome)
        return outcome

    def _compare_live(self, outcome: Outcome) -> Outcome:
        # no flush first: a flush may itself do the damage, and then must be an op of the trace
        outcome = replace(outcome, stage=Stage.LIVE)
        live, outcome = self._compare(outcome, self.sides, self.running, "live")
        if self.run.twice and live.damage and not outcome.gone:
            live, outcome = self._compare(outcome, self.sides, self.running, "live, again")
        return replace(outcome, live=live)

    def _flush(self, outcome: Outcome) -> Outcome:
        """Flush the disk as a guest does before it goes, and compare again."""
        outcome = replace(outcome, stage=Stage.FLUSHED)
        if not outcome.unflushed or not self.run.flush:
            return outcome
        try:
            wait = Waiter(self.sides.loop, self.sides.test, self.options.timeout)
            error, _, _ = ask(wait, self.sides.test, Kind.FLUSH, 0, 0, "a flush")
        except DriverHung as problem:
            return replace(outcome, gone=str(problem), silent=True)
        if self.sides.test.lost is not None:
            return note_end(outcome, self.running, "during the flush at the end")
        if error in self.options.allowed:
            return outcome
        if error:
            return replace(outcome, stop=f"the flush at the end failed (errno {error})")
        flushed, outcome = self._compare(outcome, self.sides, self.running, "flushed")
        return replace(outcome, flushed=flushed, unflushed=Unflushed())

    def _stop(self, outcome: Outcome) -> Outcome:
        """Stop the driver and run its check command."""
        outcome = replace(outcome, stage=Stage.CHECKED, log=self.running.log())
        problem = self.running.stop()
        outcome = replace(outcome, report=sanitizer_report(self.running.log()))
        if problem is not None:
            # the image may be torn: it proves nothing more
            return replace(outcome, stop=f"stopping: {problem}", stage=Stage.REOPENED)
        if self.options.driver.owns_image:
            outcome = replace(outcome, check=self.options.driver.check_image(self.image))
        return replace(outcome, stage=Stage.REOPENED) if self.volatile else outcome

    def _reopen(self, outcome: Outcome) -> Outcome:
        """Start the driver again, or the reader, and compare."""
        driver, reader, sides = self.options.driver, self.options.reader, self.sides
        name = reader.name if reader is not None else None
        outcome = replace(outcome, stage=Stage.REOPENED, reader=name)
        try:
            again = (reader or driver).start(sides.loop, self.image, sides.reference.export.size)
        except DriverError as error:
            return replace(outcome, stop=f"starting again: {error}", log=error.log)
        with again:
            sides = replace(sides, test=again.device)
            reopened, outcome = self._compare(outcome, sides, again, "reopened")
            if outcome.gone is None:
                again.stop()  # an orderly stop, so that a later run can start from the image
        if driver.may_forget and _nothing_survived(sides, reopened.damage, self.start.raw):
            return replace(outcome, volatile=True)
        if reopened.damage and outcome.unflushed:
            reopened, outcome = self._promised(reopened, outcome)
        return replace(outcome, reopened=reopened)

    def _promised(self, found: Sweep, outcome: Outcome) -> tuple[Sweep, Outcome]:
        """Drop from what a comparison found the bytes that the restart was free to lose."""
        rule = self.source.trace.header.trim
        pieces = [
            piece for piece in found.evidence if found.damage.overlaps(piece.offset, piece.end)
        ]
        open_ = outcome.unflushed.numbers() | outcome.partial
        done = changes(self.source, self.run.upto, open_)
        left = broken_promises(pieces, done, rule)
        if len(left) == len(pieces):
            return found, outcome
        kept = Sweep(compared=found.compared, failed=found.failed)
        for piece in left:
            kept.differs(piece.offset, piece.expected, piece.actual)
        return kept, replace(outcome, forgot=True)

    def _compare(
        self, outcome: Outcome, sides: Sides, running: Running, what: str
    ) -> tuple[Sweep, Outcome]:
        """Compare the images, or what the run seeks in them. Note how the driver ended, if it went
        away or did not answer. Raises OutOfTime."""
        run = self.run
        if run.deadline is not None and time.monotonic() > run.deadline:
            raise OutOfTime
        scope = self.options.scope
        if run.sign is not None and run.sign.damage and not run.everything:
            scope = replace(scope, only=run.sign.damage)
        found = sweep(
            sides.loop, sides.reference, sides.test, sides.comparison,
            scope=scope, label=f"comparing ({what})", timeout=self.options.timeout,
        )  # fmt: skip
        if found.failed is not None and found.failed.error == errno.ETIMEDOUT:
            outcome = replace(outcome, gone=str(found.failed), silent=True)
        asked = f"during {found.failed.question}" if found.failed is not None else ""
        return found, note_end(outcome, running, asked)


def note_end(outcome: Outcome, running: Running, when: str = "") -> Outcome:
    """Return the outcome with how the driver ended, if it went away. ``when`` says what it was
    asked to do."""
    lost = running.lost
    if lost is None or outcome.gone:
        return outcome
    log, ended = running.log(), running.exited()
    if ended is None and isinstance(lost, NbdError):
        gone = f"the driver broke the NBD protocol ({lost})"
    else:
        gone = f"the driver went away ({ended or lost})"
    return replace(outcome, gone=f"{gone} {when}".rstrip(), log=log)


def until(deadline: float | None, progress: Callable[[int], None]) -> Callable[[int], None]:
    """Return a function that reports progress, and raises OutOfTime after the deadline."""
    if deadline is None:
        return progress

    def count(more: int) -> None:
        progress(more)
        if time.monotonic() > deadline:
            raise OutOfTime

    return count


def _nothing_survived(sides: Sides, damage: RangeSet, start: Path | None) -> bool:
    """Return whether everything that was written is damaged: the restart kept none of the data.
    ``start`` is the raw image that new images begin with; None if they begin blank."""
    if not damage:
        return False
    reference, size = sides.reference, sides.reference.export.size
    lost = damage.copy()
    for begin, end in sides.comparison.undefined(0, size):  # these prove nothing
        lost.add(begin, end)
    with ExitStack() as stack:
        held = stack.enter_context(FileDevice(start, read_only=True)) if start else None
        for first, last, is_data in sparse.extents(reference.fd, 0, size):
            for begin, end in lost.outside(first, last) if is_data else ():
                for at in range(begin, end, PIECE):
                    piece = reference.read(at, min(PIECE, end - at))
                    if piece != held.read(at, len(piece)) if held else not is_zero(piece):
                        return False
    return True
