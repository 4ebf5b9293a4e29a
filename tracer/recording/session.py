"""A recording from start to end.

``record`` opens the images, the driver and the trace, serves the guest, compares both sides at the
end and returns the summary.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice

from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.driver.driver import Running
from tracer.errors import BlkboxError, UsageError
from tracer.files import check_free
from tracer.mirror.comparison import Comparison
from tracer.mirror.difference import Difference
from tracer.mirror.sweep import sweep
from tracer.op import KIND_BY_NUMBER, Fault, Kind, Op, sectors
from tracer.progress import LiveLine
from tracer.ranges import RangeSet
from tracer.recording import control
from tracer.recording.guest import GuestCommand
from tracer.recording.images import Images, compare_start
from tracer.recording.listener import listen, listen_address
from tracer.recording.options import OnMismatch, RecordOptions
from tracer.recording.outputs import held, open_output, record_start, remove_outputs
from tracer.recording.recorder import Recorder
from tracer.recording.signals import Signals
from tracer.trace.output import TraceOutput
from tracer.trace.payloads import new_payload_path, payload_path
from tracer.trace.records import End
from tracer.verdict import Compared, FaultName, MismatchSummary, Recording, SectorRange, VerdictKind

MAX_FINAL = 1000
"""The most damaged ranges that are recorded after the run. More would add nothing."""

NOT_COMPARED = "no driver: nothing was compared"
"""Why a recording without a driver is clean."""

ANSWER_TIMEOUT = 30.0
"""Seconds in which the driver must answer the ops that are in flight at the end."""


def record(options: RecordOptions, say: Callable[[str], None]) -> Recording:
    """Record until the guest is done. ``say`` shows a message to the user.

    Raises BlkboxError if the recording cannot start, or StorageError if our own files fail; the ops
    that were recorded before then read back.
    """
    for path in (options.trace, new_payload_path(options.trace)):
        check_free(path, options.force)
    listen_address(options)
    with ExitStack() as stack:
        loop = stack.enter_context(Loop())
        images = Images(options)
        try:
            reference = stack.enter_context(FileDevice(images.raw, durable=False))
            running = stack.enter_context(images.driver.start(loop, images.test, images.size))
            comparison = images.comparison(options.trim, reference)
            alone = options.driver.absent
            if not options.trust_start and not alone:
                compared = compare_start(loop, reference, running, comparison, options.scope)
                known = images.test_is_new or images.driver.noisy
                if compared is not None and compared.blind and not known:
                    say(
                        f"blkbox: compared at the start: {compared.describe()}. Other data on the "
                        "disk would count as damage once the guest reads it; --compare whole looks "
                        "for it"
                    )
            start = held(reference)
            output = stack.enter_context(open_output(options, reference.export.size, start))
            recorder = Recorder(
                loop, reference, None if alone else running.device, comparison, output,
                stop_on_mismatch=options.on_mismatch is OnMismatch.STOP, sync=options.sync, say=say,
            )  # fmt: skip
            record_start(recorder, reference, start)
        except BaseException:
            images.remove_new()
            raise
        try:
            session = _Session(
                options=options, loop=loop, running=running, recorder=recorder, output=output,
                comparison=comparison, say=say,
            )  # fmt: skip
            return session.run()
        except UsageError:
            # the address is in use, or the command cannot be run: nothing was recorded
            output.abandon()
            remove_outputs(options)
            images.remove_new()
            raise


@dataclass(slots=True, kw_only=True)
class _Session:
    """A recording whose driver serves the disk: from listening for guests to the summary."""

    options: RecordOptions
    loop: Loop
    running: Running
    recorder: Recorder
    output: TraceOutput
    comparison: Comparison
    say: Callable[[str], None]
    verdict: VerdictKind = VerdictKind.CLEAN
    reason: str = "no difference"
    damage: RangeSet = field(default_factory=RangeSet)
    """The damage after the run, in bytes."""
    compared: Compared | None = None
    """What the comparison after the run read."""
    guest: GuestCommand | None = None
    line: LiveLine = field(default_factory=LiveLine)
    started: float = field(default_factory=time.monotonic)

    def run(self) -> Recording:
        """Record until the guest is done, end the driver, close the trace. Return the summary."""
        options, recorder = self.options, self.recorder
        with ExitStack() as stack:
            stack.callback(self.line.clear)
            sock, address = listen(options, stack)
            recorder.listen(sock)
            stack.callback(self.loop.remove, sock.fileno())
            signals = stack.enter_context(Signals(self.loop)) if options.handle_signals else None
            environment = {control.VARIABLE: self._take_marks(stack)}
            if options.command:
                self.guest = GuestCommand(
                    self.loop, options.command, address.uri(), environment, options.guest_stdout
                )
                stack.callback(self.guest.kill)
                if signals is not None:
                    signals.forward_to(self.guest.signal)
            else:
                self.say(f"serving {address.uri()}")
            self._serve(signals)
            self.line.clear()
            if self.guest is not None and self.guest.exited is None:
                self.guest.end(self._turn)
            recorder.disconnect_guests()
        self._finish()
        return self._summary()

    def _take_marks(self, stack: ExitStack) -> str:
        """Listen for ``trace mark`` until the stack unwinds. Return the socket's path. If the
        socket fails, warn, record without marks and return an empty string."""
        try:
            listener = control.Control(
                self.loop, self.options.trace, self.output.id, self.recorder.mark
            )
        except OSError as error:
            self.say(f"blkbox: trace mark will not work: {error}")
            return ""
        stack.callback(listener.close)
        return str(listener.path)

    def _serve(self, signals: Signals | None) -> None:
        """Run the loop until the guest is done, a signal comes or the recording stops; then until
        nothing is in flight."""
        recorder = self.recorder
        while recorder.stopped is None and recorder.mirror.test.lost is None:
            self._turn(0.2)
            if self.guest is not None:
                if self.guest.exited is not None:
                    break
            elif (signals is not None and signals.received is not None) or (
                self.options.once and recorder.connections and not recorder.guests
            ):
                break
        # ops that are in flight now were submitted before the end: let them complete
        deadline = time.monotonic() + ANSWER_TIMEOUT
        while not recorder.idle and recorder.mirror.test.lost is None:
            self._turn(0.2)
            if time.monotonic() > deadline:
                self._judge(VerdictKind.FAILED, "the driver did not answer what was in flight")
                return

    def _turn(self, timeout: float) -> None:
        """Run the loop once and show the progress."""
        self.recorder.turn(timeout)
        if self.line.due():
            recorder = self.recorder
            seconds = time.monotonic() - self.started
            moved = recorder.bytes[Kind.READ] + recorder.bytes[Kind.WRITE]
            self.line.show(
                f"{recorder.counts.total():,} ops  {recorder.counts.total() / seconds:,.0f}/s  "
                f"{moved / seconds / (1 << 20):.1f} MiB/s  {recorder.mirror.in_flight} in flight  "
                f"{recorder.mismatches} mismatches"
            )

    def _finish(self) -> None:
        """Flush, compare both images, stop the driver, close the trace. Raises what stopped the
        recording, or StorageError if the trace cannot be closed."""
        options, recorder, device = self.options, self.recorder, self.running.device
        failure: BlkboxError | None = recorder.error
        try:
            if recorder.error is None:
                if options.driver.absent:
                    self.reason = NOT_COMPARED
                elif device.lost is None and self.verdict is VerdictKind.CLEAN:
                    self._compare_end()
                if device.lost is not None:
                    cause = self.running.exited() or device.lost
                    self._judge(VerdictKind.FAILED, f"the driver went away: {cause}")
                    self.say(f"blkbox: {self.reason}\n{self.running.log()}".rstrip())
                elif (problem := self.running.stop()) is not None:
                    self._judge(VerdictKind.FAILED, f"the driver: {problem}")
                if self.verdict is VerdictKind.CLEAN and recorder.differences:
                    failed = recorder.faults <= {Fault.STATUS, Fault.LOST}
                    verdict = VerdictKind.FAILED if failed else VerdictKind.DAMAGED
                    self._judge(verdict, "the test image differs from the reference")
                guest = self.guest.exited if self.guest is not None else None
                if self.verdict is VerdictKind.CLEAN and guest:
                    reason = f"{self.reason}, but the guest's exit status is {guest}"
                    self._judge(VerdictKind.UNDECIDABLE, reason)
            how = str(self.verdict) if failure is None else "incomplete"
            if how == VerdictKind.CLEAN and options.driver.absent:
                how = "recorded"
            duration = time.monotonic_ns() - recorder.started
            self.output.close(End(recorder.seq, recorder.mismatches, duration, how))
        except BlkboxError as error:
            failure = failure or error
        if failure is not None:
            raise failure

    def _compare_end(self) -> None:
        """Flush the test image, then compare it with the reference, and record the damage."""
        recorder, device = self.recorder, self.running.device
        recorder.add(Op(0, int(Kind.FLUSH)))
        recorder.turn(0)  # sends the flush: the turns below wait for events first
        deadline = time.monotonic() + ANSWER_TIMEOUT
        while not recorder.idle and device.lost is None and time.monotonic() < deadline:
            recorder.turn(0.2)
        # adopt: a later recording on these images must find them equal
        result = sweep(
            self.loop, recorder.mirror.reference, device, self.comparison,
            scope=self.options.scope, adopt=True,
        )  # fmt: skip
        self.compared = result.compared
        if result.failed is not None and device.lost is None:
            self._judge(VerdictKind.FAILED, str(result.failed))
        if result.first is None:
            return
        self.damage = RangeSet([*result.damage, *result.false_holes])
        recorder.note(result.first)
        for start, end in islice(self.damage, MAX_FINAL):
            if not start <= result.first.offset < end:
                recorder.note_range(start, end)

    def _judge(self, verdict: VerdictKind, reason: str) -> None:
        """Set the verdict and its reason, unless an earlier problem has set them."""
        if self.verdict is VerdictKind.CLEAN:
            self.verdict, self.reason = verdict, reason

    def _summary(self) -> Recording:
        recorder, options = self.recorder, self.options
        payloads = payload_path(options.trace)
        return Recording(
            verdict=self.verdict,
            reason=self.reason,
            trace=str(options.trace),
            driver=options.driver.name,
            size=recorder.export.size,
            ops={KIND_BY_NUMBER[kind].label: n for kind, n in sorted(recorder.counts.items())},
            bytes={
                KIND_BY_NUMBER[kind].label: n for kind, n in sorted(recorder.bytes.items()) if n
            },
            mismatches=[_mismatch(difference) for difference in recorder.differences],
            damage=[
                SectorRange(sector=sector, sectors=count) for sector, count in self.damage.sectors()
            ],
            trace_bytes=options.trace.stat().st_size,
            payload_bytes=payloads.stat().st_size if self.output.payloads is not None else 0,
            connections=recorder.connections,
            guest_exit=self.guest.exited if self.guest is not None else None,
            compared=self.compared,
        )


def _mismatch(difference: Difference) -> MismatchSummary:
    """Return the summary of a difference."""
    touched = sectors(difference.offset, difference.offset + difference.length)
    return MismatchSummary(
        seq=difference.op.seq if difference.op is not None else None,
        fault=FaultName(difference.fault.label),
        sector=touched.start,
        sectors=len(touched),
    )
