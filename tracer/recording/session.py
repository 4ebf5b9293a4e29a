"""A recording from start to end.

``record`` opens the images, the driver and the trace, serves the guest, compares both sides at the
end and returns the summary.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tracer.below.following import Following
from tracer.below.stream import lower_path
from tracer.disk import private
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.disk.room import check_room, shortages
from tracer.driver.served import Served
from tracer.errors import BlkboxError, Undecidable
from tracer.interrupts import held as signals_wait
from tracer.mirror.difference import Difference
from tracer.op import KIND_BY_NUMBER, Kind, OnConflict, sectors
from tracer.recording import control
from tracer.recording.ending import Ending
from tracer.recording.guest import GuestCommand
from tracer.recording.images import Images, compare_start
from tracer.recording.listener import listen, listen_address, security
from tracer.recording.locks import Locks
from tracer.recording.options import OnMismatch, RecordOptions
from tracer.recording.outputs import NewTrace, held, record_start
from tracer.recording.recorder import Recorder
from tracer.recording.signals import Signals
from tracer.terminal import Rates, StatusRow
from tracer.text import many, ops
from tracer.trace.output import TraceOutput
from tracer.trace.payloads import payload_path
from tracer.trace.records import End
from tracer.verdict import FaultName, MismatchSummary, Recording, SectorRange, SignalName

STUCK = 2
"""Seconds without an answer after which a second signal ends a recording, whatever its guest does:
a driver that works answers most ops in milliseconds."""

REMEDY = "make room, or give another --image"


def record(options: RecordOptions, say: Callable[[str], None]) -> Recording:
    """Record until the guest is done. ``say`` shows a message to the user.

    Raises BlkboxError if the recording cannot start, or StorageError if our own files fail; the ops
    that were recorded before then read back.
    """
    listen_address(options)
    private.sweep()
    # ``undo`` removes what was made, unless a guest is served; and before the locks are given up
    with Locks() as locks, ExitStack() as undo, ExitStack() as stack:
        trace = NewTrace(options, locks, undo)
        loop = stack.enter_context(Loop())
        images = Images(options, locks, undo)
        for line in shortages(images.files, images.size):
            say(f"blkbox: {line}")
        # a served disk and a block device are not on a file system of ours
        place = images.test if options.driver.owns_image else None
        check = partial(check_room, place, REMEDY) if place is not None else _nothing
        try:
            reference = stack.enter_context(FileDevice(images.raw, durable=False))
            following = None
            if options.below:
                following = stack.enter_context(trace.follow(images.test))
            image = images.test if following is None else following.path
            served = stack.enter_context(Served(images.driver, loop, image, images.size))
            running = served.running
            if running.note:
                say(f"blkbox: {running.note}")
            comparison = images.comparison(options.trim, reference)
            alone = options.driver.absent
            if not options.trust_start and not alone:
                compared = compare_start(
                    loop, reference, running, comparison, options.scope, both_new=images.both_new
                )
                known = images.test_is_new or images.driver.noisy
                if compared is not None and compared.blind and not known:
                    say(
                        f"blkbox: compared at the start: {compared.describe()}. Other data on the "
                        "disk would count as damage once the guest reads it; --compare whole looks "
                        "for it"
                    )
        except Undecidable:
            check(0)
            raise
        start = held(reference)
        output = stack.enter_context(trace.open(reference.export.size, start))
        recorder = Recorder(
            loop, reference, None if alone else running.device, comparison, output,
            stop_on_mismatch=options.on_mismatch is OnMismatch.STOP, sync=options.sync, say=say,
            check_room=check, served=None if alone else served,
            hold=options.conflicts is OnConflict.HOLD, allowed=options.allowed,
            export_name=options.export_name, following=following,
        )  # fmt: skip
        record_start(recorder, reference, start)
        if following is not None:
            following.begin(output.payloads)
        signals = stack.enter_context(Signals(loop)) if options.handle_signals else None
        ending = Ending(
            loop=loop, served=served, recorder=recorder, comparison=comparison, say=say,
            check_room=check, signals=signals, scope=options.scope, judges=not alone,
        )  # fmt: skip

        def begin() -> None:
            with signals_wait():
                trace.begin(output)
                undo.pop_all()  # from here on, what is recorded stays
                images.begin()

        session = _Session(
            options=options, loop=loop, recorder=recorder, output=output, say=say, signals=signals,
            begin=begin, made=images.made, ending=ending, following=following,
        )  # fmt: skip
        return session.run()


def _nothing(_needed: int) -> None:
    pass


@dataclass(slots=True, kw_only=True)
class _Session:
    """A recording whose driver serves the disk: from listening for guests to the summary."""

    options: RecordOptions
    loop: Loop
    recorder: Recorder
    output: TraceOutput
    say: Callable[[str], None]
    signals: Signals | None
    begin: Callable[[], None]
    """Puts the files of the recording in place, because it has begun."""
    made: list[Path]
    """The images that were made for it."""
    ending: Ending
    following: Following | None
    guest: GuestCommand | None = None
    row: StatusRow = field(default_factory=StatusRow)
    rates: Rates = field(default_factory=lambda: Rates(0, 0))

    def run(self) -> Recording:
        """Record until the guest is done, end the driver, close the trace. Return the summary."""
        options, recorder = self.options, self.recorder
        with ExitStack() as stack:
            stack.callback(self.row.clear)
            sock, address = listen(options, stack)
            recorder.listen(sock, security(options))
            stack.callback(recorder.stop_listening)
            environment = {control.VARIABLE: self._take_marks(stack)}
            if options.command:
                self.guest = GuestCommand(
                    self.loop, options.command, address.uri(), environment, options.guest_stdout
                )
                stack.callback(self.guest.kill)
                if self.signals is not None:
                    self.signals.forward_to(self.guest.signal)
            else:
                self.say(f"serving {address.uri()}")
            self.begin()
            self._serve()
            self._note_background()
            if self.guest is not None and self.guest.exited is None:
                self.guest.end(self._turn)
            self.ending.drain(self._turn)
            recorder.catch_up()
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

    def _serve(self) -> None:
        """Run the loop until the guest is done, a signal comes or the recording stops."""
        recorder, signals = self.recorder, self.signals
        while recorder.stopped is None and recorder.mirror.lost is None:
            self._turn(0.2)
            if self.guest is not None:
                if self.guest.exited is not None:
                    break
                if self._asked_twice():
                    break
            elif (signals is not None and signals.received is not None) or (
                self.options.once and recorder.connections and not recorder.guests
            ):
                break

    def _asked_twice(self) -> bool:
        """Whether a second signal came and the driver does not answer: the guest, which gets the
        signals too, may wait for it for ever."""
        signals, oldest = self.signals, self.recorder.mirror.oldest()
        if signals is None or signals.count < 2 or signals.received is None or oldest is None:
            return False
        if not oldest.started or time.monotonic_ns() - oldest.started < STUCK * 10**9:
            return False
        self.ending.cut_short(signals.received)
        return True

    def _note_background(self) -> None:
        """Say so if the guest's command has ended and still uses the disk."""
        recorder = self.recorder
        if self.guest is None or self.guest.exited is None or recorder.stopped is not None:
            return
        self._turn(0)  # what the command closed when it ended
        if recorder.guests:
            self.say(
                f"blkbox: {self.options.command[0]} ended with the disk still open: a guest in the "
                "background is cut off; keep it in the foreground"
            )

    def _turn(self, timeout: float) -> None:
        """Run the loop once and show the progress."""
        self.recorder.turn(timeout)
        if self.row.due():
            recorder = self.recorder
            count = recorder.counts.total()
            moved = recorder.bytes[Kind.READ] + recorder.bytes[Kind.WRITE]
            per_second, speed = self.rates.now(count, moved)
            differences = many(recorder.mismatches, "mismatch", "mismatches")
            self.row.show(
                f"{ops(count)}  {per_second:,.0f}/s  {speed / (1 << 20):.1f} MiB/s  "
                f"{recorder.mirror.in_flight} in flight  {differences}"
            )

    def _finish(self) -> None:
        """Judge the driver, stop it, close the trace. Raises what stopped the recording, or
        StorageError if the trace cannot be closed."""
        recorder, ending = self.recorder, self.ending
        failure: BlkboxError | KeyboardInterrupt | None = recorder.error
        if failure is None:
            try:
                ending.judge(self.guest.exited if self.guest is not None else None, self._hint())
            except (BlkboxError, KeyboardInterrupt) as error:
                failure = error
        how = str(ending.verdict) if failure is None else "incomplete"
        if failure is None and not ending.judges and not ending.verdict.exit_code:
            how = "recorded"
        duration = time.monotonic_ns() - recorder.started
        try:
            if self.following is not None:
                self.following.finish()
        except BlkboxError as error:
            failure = failure or error
        try:
            self.output.close(End(recorder.seq, recorder.mismatches, duration, how))
        except BlkboxError as error:
            failure = failure or error
        if failure is not None:
            raise failure

    def _hint(self) -> str:
        """What the user may have done wrong if no guest used the disk."""
        guest, command = self.guest, self.options.command
        if guest is None or self.recorder.connections:
            return ""
        if not any("{nbd}" in word for word in command):
            return "; is {nbd} in the guest's command?"
        if guest.exited == 0:
            return f"; {command[0]} did not open the disk, or went to the background"
        return ""

    def _made(self) -> list[Path]:
        """Return the files that the recording made."""
        store = [payload_path(self.options.trace)] if self.output.payloads is not None else []
        lower = [lower_path(self.options.trace)] if self.options.below else []
        return [self.options.trace, *store, *lower, *self.made]

    def _summary(self) -> Recording:
        recorder, options, ending = self.recorder, self.options, self.ending
        signal = ending.interrupted
        payloads = payload_path(options.trace)
        return Recording(
            verdict=ending.verdict,
            reason=ending.reason,
            trace=str(options.trace),
            driver=options.driver.name,
            size=recorder.export.size,
            ops={KIND_BY_NUMBER[kind].label: n for kind, n in sorted(recorder.counts.items())},
            bytes={
                KIND_BY_NUMBER[kind].label: n for kind, n in sorted(recorder.bytes.items()) if n
            },
            mismatches=[_mismatch(difference) for difference in recorder.differences],
            damage=[
                SectorRange(sector=sector, sectors=count)
                for sector, count in ending.damage.sectors()
            ],
            trace_bytes=options.trace.stat().st_size,
            payload_bytes=payloads.stat().st_size if self.output.payloads is not None else 0,
            connections=recorder.connections,
            guest_exit=self.guest.exited if self.guest is not None else None,
            compared=ending.compared,
            made=[str(path) for path in self._made()],
            interrupted=SignalName(signal.name) if signal is not None else None,
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
