"""The end of a recording, once its guests are done: let what is in flight complete, compare both
images, stop the driver, and come to a verdict. A signal cuts this short."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

from tracer.disk.loop import Loop
from tracer.driver.command import check_failed, exit_text
from tracer.driver.complaints import sanitizer_report
from tracer.driver.driver import STOP_TIMEOUT
from tracer.driver.served import Served
from tracer.interrupts import Interrupted
from tracer.mirror.comparison import Comparison
from tracer.mirror.found import Sweep
from tracer.mirror.scope import Scope
from tracer.mirror.sweep import sweep
from tracer.op import Fault, Kind, Op
from tracer.ranges import RangeSet
from tracer.recording.recorder import Recorder
from tracer.recording.signals import Signals
from tracer.text import size
from tracer.verdict import Compared, VerdictKind

NOT_COMPARED = "no driver: nothing was compared"
"""Why a recording without a driver is clean."""

MAX_FINAL = 1000
"""The most damaged ranges that are recorded after the run. More would add nothing."""

ANSWER_TIMEOUT = 30.0
"""Seconds in which the driver must answer the ops that are in flight at the end, and the flush
after them."""

HURRY = 5.0
"""Seconds in which a driver must stop if it did not answer, or after a signal that cut the end
short: it may write out its caches, and the user waits."""


@dataclass(slots=True, kw_only=True)
class Ending:
    """The end of a recording, and what it found."""

    loop: Loop
    served: Served
    recorder: Recorder
    comparison: Comparison
    say: Callable[[str], None]
    check_room: Callable[[int], None]
    """Raises StorageError if the driver's disk is full: then the driver is not to blame."""
    signals: Signals | None
    scope: Scope
    """What the comparison reads."""
    judges: bool = True
    """Whether there is a driver to judge."""
    verdict: VerdictKind = VerdictKind.CLEAN
    reason: str = "no difference"
    damage: RangeSet = field(default_factory=RangeSet)
    """The damage after the run, in bytes."""
    compared: Compared | None = None
    """What the comparison read."""
    interrupted: Interrupted | None = None
    """The signal that came before everything was compared and the driver had stopped."""
    _unanswered: bool = False
    _read: int = 0  # bytes that were compared, if not all

    def drain(self, turn: Callable[[float], None]) -> None:
        """Run the loop until nothing is in flight: ops that are in flight now were submitted before
        the end. ``turn(seconds)`` runs it once."""
        recorder = self.recorder
        recorder.end()
        if self.signals is not None and self.interrupted is None:
            self.signals.forget()
        deadline = time.monotonic() + ANSWER_TIMEOUT
        while not recorder.idle and recorder.mirror.lost is None and not self._signalled():
            turn(0.2)
            if time.monotonic() > deadline:
                self._unanswered = True
                return

    def cut_short(self, number: int) -> None:
        """Note that a signal asked twice for the end. What is in flight is not waited for."""
        self.interrupted = Interrupted(number)

    def judge(self, guest: int | None, hint: str) -> None:
        """Compare both images, stop the driver, and set the verdict.

        ``guest`` is the exit status of the guest's command, if there was one; ``hint`` is for the
        user of a recording without a guest's op. Raises StorageError if a disk of ours is full.
        """
        recorder, running = self.recorder, self.served.running
        if not self.judges:
            self.reason = NOT_COMPARED
            self._judge_guest(guest, hint)
            return
        if recorder.trouble is not None:
            self._set(VerdictKind.FAILED, f"at a restart: {recorder.trouble}")
            self.say(f"blkbox: {self.reason}\n{recorder.trouble.log}".rstrip())
            return
        if self._unanswered:
            self._set(VerdictKind.FAILED, "the driver did not answer what was in flight")
        elif running.lost is None and not self._signalled():
            self._compare()
        if running.lost is not None:
            cause = running.exited() or running.lost
            self._set(VerdictKind.FAILED, f"the driver went away: {cause}")
            self.say(f"blkbox: {self.reason}\n{self.served.running.log()}".rstrip())
        else:
            self._stop()
        if recorder.differences:
            failed = recorder.faults <= {Fault.STATUS, Fault.LOST}
            verdict = VerdictKind.FAILED if failed else VerdictKind.DAMAGED
            reason = "the test image differs from the reference"
            if failed:
                reason = "an op failed on one side and succeeded on the other"
            self._set(verdict, reason)
        if self.interrupted is not None:
            self._note_interruption()
        else:
            self._judge_guest(guest, hint)

    def _judge_guest(self, guest: int | None, hint: str) -> None:
        """Without a guest's op, or with a guest that failed, a recording is not clean."""
        if not self.recorder.guest_ops:
            status = f"; {_failed(guest)}" if guest else ""
            self._set(VerdictKind.UNDECIDABLE, f"no guest op: nothing was tested{status}{hint}")
        elif guest:
            self._set(VerdictKind.UNDECIDABLE, f"{self.reason}, but {_failed(guest)}")

    def _compare(self) -> None:
        """Flush the test image, then compare it with the reference, and record the damage."""
        recorder, running = self.recorder, self.served.running
        recorder.settle()
        recorder.add(Op(0, int(Kind.FLUSH)))
        recorder.turn(0)  # sends the flush: the turns below wait for events first
        deadline = time.monotonic() + ANSWER_TIMEOUT
        while not recorder.idle and running.lost is None:
            if self._signalled():
                return
            if time.monotonic() > deadline:
                self._unanswered = True
                self._set(VerdictKind.FAILED, f"no answer to a flush for {ANSWER_TIMEOUT:g} s")
                return
            recorder.turn(0.2)
        recorder.mirror.give_up()
        result = Sweep()
        with self._interruptible():
            # adopt: a later recording on these images must find them equal
            sweep(
                self.loop, recorder.mirror.reference, running.device, self.comparison,
                scope=self.scope, adopt=True, into=result,
            )  # fmt: skip
        self.compared, self._read = result.compared, result.read
        if result.failed is not None and running.lost is None:
            self._set(VerdictKind.FAILED, str(result.failed))
        if result.first is None:
            return
        self.check_room(0)
        self.damage = RangeSet([*result.damage, *result.false_holes])
        recorder.note(result.first)
        for start, end in islice(self.damage, MAX_FINAL):
            if not start <= result.first.offset < end:
                recorder.note_range(start, end)

    def _stop(self) -> None:
        """Stop the driver. It may write out its caches, unless a signal comes."""
        problem = None
        hurry = self._unanswered or self.interrupted is not None
        with self._interruptible():
            problem = self.served.running.stop(HURRY if hurry else STOP_TIMEOUT)
        # stopped amid our reads, it is not stopped as a guest would stop it
        if self.interrupted is not None:
            return
        if problem is not None:
            self._set(VerdictKind.FAILED, f"the driver: {problem}")
            return
        report = sanitizer_report(self.served.running.log())
        if report is not None:
            self._set(VerdictKind.FAILED, f"the driver printed {report}")
        with self._interruptible():
            found = self.served.check()
            if found is not None:
                self._set(VerdictKind.FAILED, check_failed(found))

    def _signalled(self) -> bool:
        """Whether a signal came since the guests were done."""
        if self.signals is not None and self.signals.received is not None:
            self._note(Interrupted(self.signals.received))
        return self.interrupted is not None

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Leave the block at a signal, and note the signal."""
        if self.signals is None:
            yield
            return
        try:
            with self.signals.interrupting():
                yield
        except Interrupted as error:
            self._note(error)

    def _note(self, signal: Interrupted) -> None:
        """Note a signal, if it is the first. A later signal interrupts the next step."""
        assert self.signals is not None
        self.signals.forget()
        self.interrupted = self.interrupted or signal

    def _note_interruption(self) -> None:
        """Say in the reason how far the comparison came."""
        done = "the images were not compared"
        if self.compared is not None:
            done = f"{self.compared.describe()} was compared"
        elif self._read:
            done = f"only {size(self._read)} were compared"
        if self.verdict is VerdictKind.CLEAN:
            self._set(
                VerdictKind.UNDECIDABLE, f"{self.interrupted} at the end: {done}, no difference"
            )
        else:
            self.reason += f"; {self.interrupted} at the end: {done}"

    def _set(self, verdict: VerdictKind, reason: str) -> None:
        """Set the verdict and its reason, unless an earlier problem has set them. Raises
        StorageError if the driver would be blamed while its disk is full."""
        if self.verdict is VerdictKind.CLEAN:
            if verdict is not VerdictKind.UNDECIDABLE:
                self.check_room(0)
            self.verdict, self.reason = verdict, reason


def _failed(guest: int) -> str:
    """Return how a guest's command failed, by its exit code."""
    if guest < 0:
        return f"the guest was {exit_text(guest)}"
    return f"the guest's exit status is {guest}"
