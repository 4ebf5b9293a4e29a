"""The recorder: it passes guests' requests to the mirror and writes the ops to the trace.

One turn of the loop: read what guests sent, pump the mirror, write the records of all completed ops
in one system call, and only then reply. So if a guest saw an op complete, the op is in the trace.
And if an op's completion time is before another op's submission time, the driver had really
answered it before.
"""

import errno
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from tracer.below.following import Following
from tracer.digest import digest
from tracer.disk.device import CONNECTION_LOST, Device
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.driver.served import Served, Trouble
from tracer.errors import StorageError, UsageError
from tracer.mirror.alone import Alone
from tracer.mirror.comparison import Comparison
from tracer.mirror.contention import Settled
from tracer.mirror.difference import Difference, describe
from tracer.mirror.flight import Flight
from tracer.mirror.mirror import MAX_BYTES, MAX_OPS, MAX_UNSETTLED, Mirror
from tracer.nbd import protocol as p
from tracer.nbd.server import Request
from tracer.op import CARRIES_DATA, MUTATING, NO_PAYLOAD, ZERO_DIGEST, Fault, Flag, Kind, Op
from tracer.recording.acceptor import Acceptor
from tracer.recording.connection import MAX_WARNINGS, Guest, at_most
from tracer.recording.upkeep import Upkeep
from tracer.trace.output import TraceOutput
from tracer.trace.payloads import LINGER
from tracer.trace.records import Mark, Mismatch, Restart, Settle, pack_op

if TYPE_CHECKING:
    from ssl import SSLContext

MAX_LISTED = 10_000
"""The most differences that are kept for the summary. The trace has all of them."""

SHAPE_FLAGS = int(Flag.DF | Flag.REQ_ONE)
"""Flags that only shape a reply. Our server handles them; they are not part of the op."""

OURS = 0
"""The connection number of the recorder's own ops. Guests' connections count from 1."""


class Recorder:
    """Serves guests from a mirror and records their ops.

    Without ``test`` there is no driver: ops are done on the reference alone. With
    ``stop_on_mismatch``, a difference fails its op and stops the recording. With ``sync``, each
    flush and FUA flushes the trace to the disk too. ``say`` shows a difference to the user.
    ``check_room(needed)`` raises StorageError if a difference is not the driver's fault, since its
    disk is full; ``needed`` is the bytes of a request that failed with ENOSPC. ``allowed`` are
    errno values that the driver may return. Guests see the disk as ``export_name``.
    """

    def __init__(
        self,
        loop: Loop,
        reference: FileDevice,
        test: Device | None,
        comparison: Comparison,
        output: TraceOutput,
        *,
        stop_on_mismatch: bool = True,
        sync: bool = False,
        say: Callable[[str], None] = print,
        check_room: Callable[[int], None] = lambda needed: None,
        served: Served | None = None,
        hold: bool = False,
        allowed: frozenset[int] = frozenset(),
        export_name: str = "",
        following: Following | None = None,
    ) -> None:
        offered = reference.export if test is None else test.export
        self.export = p.Export(
            reference.export.size,
            # guests share a connection to the driver, unless it promises that a flush on any covers
            # all of them
            int(offered.flags & p.PASSED_ON | p.TransmissionFlag.CAN_MULTI_CONN),
            offered.sizes,
            export_name,
            offered.description,
        )
        self._settled: list[Settled] = []
        self.mirror = (
            Alone(
                reference, comparison.trim_rule, self._done, self._meanwhile, self._settled.append
            )
            if test is None
            else Mirror(
                reference,
                test,
                comparison,
                self._done,
                self._meanwhile,
                settled=self._settled.append,
                hold=hold,
                allowed=allowed,
            )
        )
        self._upkeep: Upkeep | None = None
        if served is not None:
            assert isinstance(self.mirror, Mirror)
            self._upkeep = Upkeep(
                traffic=self, mirror=self.mirror, served=served,
                finish=self._before_restart, restarted=self._restarted,
            )  # fmt: skip
        self._acceptor: Acceptor | None = None
        self.counts: Counter[int] = Counter()
        """By kind, the number of recorded ops."""
        self.guest_ops = 0
        """The number of recorded ops that came from guests."""
        self.bytes: Counter[int] = Counter()
        """By kind, the bytes of recorded ops."""
        self.differences: list[Difference] = []
        """The first MAX_LISTED differences, without the bytes that differ."""
        self.mismatches = 0
        """The number of differences."""
        self.faults: set[Fault] = set()
        """The kinds of difference."""
        self.stopped: str | None = None
        """Why the recording stopped, or None."""
        self.error: StorageError | None = None
        """The error with our own files that stopped it, or None."""
        self.seq = 0
        """The seq of the next op."""
        self._loop = loop
        self._following = following
        self._output = output
        self._payloads = output.payloads
        self._stop_on_mismatch = stop_on_mismatch
        self._sync = sync
        self._say = say
        self._check_room = check_room
        self.started = time.monotonic_ns()
        """The trace's start on the monotonic clock, in ns. Times in the trace count from it."""
        self._warn = at_most(MAX_WARNINGS, say)
        self._finished: list[Flight] = []
        self._bytes_in_flight = 0
        self._last_completed = 0
        self._settling = 0  # reads of our own that are in flight
        self._waiting = False  # whether a guest has requests that do not fit into the mirror

    # ---------------------------------------------------------------- guests

    def listen(self, sock: socket.socket, tls: "SSLContext | None" = None) -> None:
        """Accept guests on a listening socket; with ``tls``, guests with TLS alone."""
        self._acceptor = Acceptor(
            self._loop, sock, self.export, tls=tls, say=self._say, warn=self._warn
        )

    def stop_listening(self) -> None:
        """Take no more guests."""
        if self._acceptor is not None:
            self._acceptor.close()

    def _before_restart(self) -> None:
        """Settle what is open, and flush, before the driver is restarted."""
        self.settle()
        if self.export.flags & p.TransmissionFlag.SEND_FLUSH:
            self.add(Op(0, int(Kind.FLUSH)))

    def _restarted(self) -> None:
        """The driver was restarted. If that showed trouble, the recording stops."""
        assert self._upkeep is not None
        self._commit()  # a restart comes after the records of all earlier ops
        if self._upkeep.trouble is not None:
            self.stopped = str(self._upkeep.trouble)
            return
        try:
            self._output.restart(Restart(self.seq, self._now(), "guest returned"))
        except StorageError as error:
            self.error, self.stopped = error, str(error)

    @property
    def changes(self) -> int:
        """The number of recorded ops that may have changed the disk, without its start image."""
        return sum(self.counts[kind] for kind in MUTATING - {int(Kind.START)})

    @property
    def trouble(self) -> Trouble | None:
        """What a restart of the driver showed; None: nothing."""
        return self._upkeep.trouble if self._upkeep is not None else None

    @property
    def guests(self) -> list[Guest]:
        """The guests that are connected."""
        return self._acceptor.guests if self._acceptor is not None else []

    @property
    def connections(self) -> int:
        """The number of guests that have connected so far."""
        return self._acceptor.count if self._acceptor is not None else 0

    def turn(self, timeout: float | None) -> None:
        """Run the loop once: wait up to ``timeout`` seconds for events, and handle them."""
        payloads = self._payloads
        if payloads is not None and (payloads.waiting or payloads.full):
            timeout = min(LINGER, timeout or LINGER)  # the payload store makes no events: poll it
        if not self._loop.poll(timeout):
            self.catch_up()  # nobody waits for us; otherwise the next pump does it
        if self._upkeep is not None and self.stopped is None:
            self._upkeep.before_requests()
        self._admit()
        while True:
            self.mirror.pump()
            self._check_reference()
            self._commit()
            if not self._waiting or not self._admit():  # the commit made room
                break
        if self.mirror.open_bytes > MAX_UNSETTLED and not self._settling:
            self.settle()
        if payloads is not None:
            payloads.tick()
        if self._acceptor is not None:
            self._acceptor.tidy()
        if self._upkeep is not None:
            self._upkeep.after_requests()

    def catch_up(self) -> None:
        """Bring the reference in line with all ops that are done."""
        self.mirror.apply()
        self._check_reference()

    def _check_reference(self) -> None:
        """Stop if the reference could not be written."""
        if self.mirror.failed is not None and self.error is None:
            self.error = self.mirror.failed
            self.stopped = str(self.error)

    def settle(self) -> None:
        """Submit reads of what conflicting ops have left open. They decide it."""
        for start, end in self.mirror.unsettled():
            self._settling += 1
            self.add(Op(0, int(Kind.READ), 0, start, end - start))

    @property
    def idle(self) -> bool:
        """Whether no op is in flight. Requests that wait are not with the driver yet: a guest that
        does not fetch its replies holds them back, not the driver."""
        return not self.mirror.in_flight

    def add(self, op: Op, data: bytes | None = None) -> None:
        """Submit an op of our own. It is mirrored and recorded like a guest's op."""
        op.seq = self.seq
        self.seq += 1
        op.submitted = self._submission()
        if self._following is not None:
            self._following.clock.submitted(op.seq)
        self.mirror.submit(Flight(op, data, None))

    def record_start(self, offset: int, data: bytes) -> None:
        """Record a piece of the start image, which both sides have already. Raises StorageError."""
        op = Op(self.seq, int(Kind.START), 0, offset, len(data))
        op.completed = op.submitted = 0
        self.seq += 1
        self._output.store(op, data)
        self.counts[op.kind] += 1
        self.bytes[op.kind] += op.length
        self._output.write([pack_op(op)])

    def mark(self, name: str) -> Mark:
        """Record a mark before the next op. Raises UsageError if the recording has stopped,
        StorageError if the mark cannot be written."""
        if self.stopped is not None:
            raise UsageError(f"the recording is ending: {self.stopped}")
        mark = Mark(self.seq, self._now(), name)
        try:
            self._output.mark(mark)
        except StorageError as error:
            self.error = error
            self.stopped = str(error)
            raise
        return mark

    def end(self) -> None:
        """Take no more requests: those that wait and those that come fail with ESHUTDOWN."""
        if self.stopped is None:
            self.stopped = "its guests are done"

    def disconnect_guests(self) -> None:
        """Close all connections, after a last attempt to send the replies that wait."""
        if self._acceptor is not None:
            self._acceptor.disconnect()

    def _admit(self) -> bool:
        """Submit guests' requests to the mirror while there is room. Return whether there was
        any."""
        admitted = self._waiting = False
        full = self._payloads is not None and self._payloads.full
        waits = full or (self._upkeep is not None and self._upkeep.restarting)
        room = self.stopped is None and not waits
        for guest in self.guests:
            backlog = guest.backlog
            if backlog and self.stopped is not None:
                for request in backlog:
                    guest.server.reply_error(request, errno.ESHUTDOWN)
                backlog.clear()
                guest.channel.send()
                continue
            while (
                backlog
                and room
                and self.mirror.in_flight < MAX_OPS
                and self._bytes_in_flight < MAX_BYTES
                and not guest.is_behind
            ):
                self._submit(guest, backlog.popleft())
                admitted = True
            guest.channel.pause(bool(backlog) or guest.is_behind)
            self._waiting = self._waiting or bool(backlog)
        if admitted and self._waiting:
            self.guests.append(self.guests.pop(0))  # next time another guest comes first
        return admitted

    def _submit(self, guest: Guest, request: Request) -> None:
        op = Op(
            self.seq, request.kind, request.flags & ~SHAPE_FLAGS, request.offset, request.length,
            self._submission(), connection=guest.number,
        )  # fmt: skip
        self.seq += 1
        guest.in_flight += 1
        if op.kind <= Kind.WRITE:
            self._bytes_in_flight += op.length
        if self._following is not None:
            self._following.clock.submitted(op.seq)
        self.mirror.submit(Flight(op, request.data, (guest, request)))

    # ---------------------------------------------------------------- the mirror's callbacks

    def _meanwhile(self, flight: Flight) -> None:
        """The driver works on an op: hash its data."""
        op, data = flight.op, flight.data
        assert isinstance(data, bytes | bytearray)
        op.digest = digest(data)
        if self._payloads is not None and op.kind in CARRIES_DATA:
            op.payload = self._payloads.put(op.digest, data)

    def _done(self, flight: Flight) -> None:
        """Both sides have done an op."""
        op = flight.op
        op.completed = self._last_completed = self._now()
        if self._following is not None:
            self._following.clock.completed(op.seq, op.test_status)
        if flight.contested and op.kind == Kind.READ and not op.test_status:
            assert isinstance(flight.data, bytes | bytearray)
            op.digest = digest(flight.data)  # the guest gets what the test side returned
        self._finished.append(flight)

    # ---------------------------------------------------------------- recording

    def _now(self) -> int:
        """The time since the trace's start, in ns."""
        return time.monotonic_ns() - self.started

    def _submission(self) -> int:
        """The time for an op that is submitted now: later than that of each op that was done
        before, so that the trace shows which ops were in flight together."""
        return max(self._now(), self._last_completed + 1)

    def _commit(self) -> None:
        """Record the completed ops, then reply."""
        if not self._finished:
            return
        finished, self._finished = self._finished, []
        now = self._now()
        if self.error is None:
            try:
                self._record(finished, now)
                if self._payloads is not None and self._payloads.error is not None:
                    raise self._payloads.error
            except StorageError as error:
                self.error = error
                self.stopped = str(error)
        for flight in finished:
            self._reply(flight)
        for guest in self.guests:
            if guest.server.outgoing:
                guest.channel.send()

    def _record(self, finished: list[Flight], now: int) -> None:
        records, broken = [], None
        for flight in finished:
            op = flight.op
            records.append(pack_op(op))
            self.counts[op.kind] += 1
            self.bytes[op.kind] += op.length
            self.guest_ops += flight.token is not None
            if op.reference_status and not op.refused and not flight.forgiven:
                broken = op
        self._output.write(records)
        if self._following is not None:
            self._following.turn()
        self._record_settled()
        if broken is not None:  # the reference is our own file: the driver is not to blame
            reason = os.strerror(broken.reference_status)
            where = self.mirror.reference.path
            raise StorageError(f"op {broken.describe()} failed on {where}: {reason}")
        if self._sync and any(f.op.kind == Kind.FLUSH or f.op.flags & Flag.FUA for f in finished):
            self._output.sync()
        for flight in finished:
            if flight.differences:
                full = flight.op.test_status == errno.ENOSPC
                self._check_room(flight.op.length if full else 0)
            for difference in flight.differences:
                self.note(difference, now)
                if self._stop_on_mismatch and self.stopped is None:
                    self.stopped = "the two sides differ"

    def _record_settled(self) -> None:
        """Record what reads have decided."""
        if not self._settled:
            return
        settled, self._settled[:] = list(self._settled), []
        for one in settled:
            self._output.settle(
                Settle(
                    one.decided, one.start, one.end - one.start, one.winner, self._now(),
                    digest(one.data),
                )
            )  # fmt: skip

    def note_range(self, start: int, end: int) -> None:
        """Record a further damaged range of bytes, found after the run, without showing it."""
        self.mismatches += 1
        self._output.mismatch(
            Mismatch(
                self.seq, Fault.FINAL, start, end - start, 0, 0, self._now(), NO_PAYLOAD,
                ZERO_DIGEST,
            )
        )  # fmt: skip

    def note(self, difference: Difference, now: int | None = None) -> None:
        """Record a difference and show it to the user."""
        self.mismatches += 1
        self.faults.add(difference.fault)
        if len(self.differences) < MAX_LISTED:
            # drop the bytes: a broken driver may differ in every read of a long recording
            self.differences.append(replace(difference, expected=b"", actual=b""))
        op = difference.op
        payload, key = NO_PAYLOAD, digest(difference.actual)
        if self._payloads is not None and difference.actual:
            payload = self._payloads.put(key, difference.actual)
        self._output.mismatch(
            Mismatch(
                op.seq if op is not None else self.seq,
                difference.fault, difference.offset, difference.length,
                difference.expected_status, difference.actual_status,
                self._now() if now is None else now, payload, key,
            )
        )  # fmt: skip
        self._say(describe(difference))

    def _reply(self, flight: Flight) -> None:
        op = flight.op
        if flight.token is None:
            self._settling -= op.kind == Kind.READ
            return
        guest, request = flight.token
        guest.in_flight -= 1
        if op.kind <= Kind.WRITE:
            self._bytes_in_flight -= op.length
        if guest.gone:
            return
        server = guest.server
        if (
            (self._stop_on_mismatch and flight.differences)
            or self.error is not None
            or op.test_status == CONNECTION_LOST
        ):
            server.reply_error(request, errno.EIO)
        elif op.reference_status:
            server.reply_error(request, op.test_status or op.reference_status)
        elif op.kind == Kind.READ:
            server.reply_read(request, flight.data)
        elif op.kind == Kind.BLOCK_STATUS:
            server.reply_status(request, flight.extents)
        else:
            server.reply(request)
