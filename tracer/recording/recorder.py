"""The recorder: it passes guests' requests to the mirror and writes the ops to the trace.

One turn of the loop: read what guests sent, pump the mirror, write the records of all completed ops
in one system call, and only then reply. So if a guest saw an op complete, the op is in the trace.
And if an op's completion time is before another op's submission time, its reply really was sent
before.
"""

import errno
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from tracer.digest import digest
from tracer.disk.device import CONNECTION_LOST, Device
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.errors import StorageError, UsageError
from tracer.mirror.alone import Alone
from tracer.mirror.comparison import Comparison
from tracer.mirror.difference import Difference, describe
from tracer.mirror.mirror import MAX_BYTES, MAX_OPS, Flight, Mirror
from tracer.nbd import protocol as p
from tracer.nbd.server import Request
from tracer.op import CARRIES_DATA, NO_PAYLOAD, ZERO_DIGEST, Fault, Flag, Kind, Op
from tracer.recording.acceptor import Acceptor
from tracer.recording.connection import MAX_WARNINGS, Guest, at_most
from tracer.trace.output import TraceOutput
from tracer.trace.payloads import LINGER
from tracer.trace.records import Mark, Mismatch, pack_op

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
        allowed: frozenset[int] = frozenset(),
        export_name: str = "",
    ) -> None:
        offered = reference.export if test is None else test.export
        self.export = p.Export(
            reference.export.size,
            # all guests share a connection to the driver, so a flush of any guest covers all of
            # them
            int(offered.flags & p.PASSED_ON | p.TransmissionFlag.CAN_MULTI_CONN),
            offered.sizes,
            export_name,
            offered.description,
        )
        self.mirror = (
            Alone(reference, comparison.trim_rule, self._done, self._referred)
            if test is None
            else Mirror(reference, test, comparison, self._done, self._referred, allowed=allowed)
        )
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
        self._loop.poll(timeout)
        self._admit()
        while True:
            self.mirror.pump()
            self._commit()
            if not self._waiting or not self._admit():  # the commit made room
                break
        if payloads is not None:
            payloads.tick()
        if self._acceptor is not None:
            self._acceptor.tidy()

    @property
    def idle(self) -> bool:
        """Whether no op is in flight. Requests that wait are not with the driver yet: a guest that
        does not fetch its replies holds them back, not the driver."""
        return not self.mirror.in_flight

    def add(self, op: Op, data: bytes | None = None) -> None:
        """Submit an op of our own. It is mirrored and recorded like a guest's op."""
        op.seq = self.seq
        self.seq += 1
        op.submitted = self._now()
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
        room = self.stopped is None and not (self._payloads is not None and self._payloads.full)
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
            self._now(), connection=guest.number,
        )  # fmt: skip
        self.seq += 1
        guest.in_flight += 1
        if op.kind <= Kind.WRITE:
            self._bytes_in_flight += op.length
        self.mirror.submit(Flight(op, request.data, (guest, request)))

    # ---------------------------------------------------------------- the mirror's callbacks

    def _referred(self, flight: Flight) -> None:
        """The reference has done an op: hash its data while the driver works."""
        op, data = flight.op, flight.data
        if data is None or op.reference_status:
            return
        assert isinstance(data, bytes | bytearray)
        op.digest = digest(data)
        if self._payloads is not None and op.kind in CARRIES_DATA:
            op.payload = self._payloads.put(op.digest, data)

    def _done(self, flight: Flight) -> None:
        """Both sides have done an op."""
        self._finished.append(flight)

    # ---------------------------------------------------------------- recording

    def _now(self) -> int:
        """The time since the trace's start, in ns."""
        return time.monotonic_ns() - self.started

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
            op.completed = now
            records.append(pack_op(op))
            self.counts[op.kind] += 1
            self.bytes[op.kind] += op.length
            self.guest_ops += flight.token is not None
            if op.reference_status and not op.refused and not flight.forgiven:
                broken = op
        self._output.write(records)
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
