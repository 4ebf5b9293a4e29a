"""The mirror: do each op on both sides and compare the results.

Recording and replay do all their ops here. The driver gets the ops as they are submitted, in the
same order and with the same ops in flight together. Where ops conflict, what the driver may answer
is computed (contention.py). With ``hold``, an op that conflicts with ops in flight waits for them
instead: traces of version 1 were recorded so.

    mirror.submit(Flight(op, data))     # any number of times
    mirror.pump()                       # sends to the test side, then does the reference's part
    mirror.apply()                      # ... and what has completed since, if nothing comes
    ... done(flight) is called when an op is done, with the differences in flight.differences

The reference changes after an op has completed, since a read that is in flight with it may return
what was there before. The next ``pump`` does that, while the driver works on what was just sent: so
a guest does not wait for it.
"""

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from tracer.disk.device import CONNECTION_LOST, Data, Device
from tracer.disk.file import FileDevice
from tracer.errors import StorageError
from tracer.mirror.block_status import common_extents, false_holes
from tracer.mirror.comparison import Comparison
from tracer.mirror.contention import Contention, Settled
from tracer.mirror.difference import Difference
from tracer.mirror.flight import NO_DIFFERENCES, Flight
from tracer.mirror.forgiven import Forgiven
from tracer.nbd.protocol import State
from tracer.op import (
    FAST_ZERO,
    MUTATING,
    Extents,
    Fault,
    Kind,
    Op,
    changing_kinds,
    conflicting,
)
from tracer.ranges import RangeSet

MAX_OPS = 256
"""The most ops that callers keep in flight: twice the need of 16 connections with queue depth 8."""

MAX_BYTES = 64 << 20
"""The most bytes of reads and writes that callers keep in flight, so that memory stays bounded:
enough for two requests of the largest size."""

MAX_UNSETTLED = 64 << 20
"""The most bytes whose value is open. Beyond that, callers read them with ops of their own."""

DECIDE_ALL = 64
"""Contested ops after which all contested ranges are looked at: an op elsewhere may have kept some
open."""

SETTLE_STEP = 1 << 20
"""Bytes of an op that reads what is open."""


class Mirror:
    """Joins a reference and a test device.

    ``meanwhile`` gets each flight while the driver still works, with its data if it is a write, or
    a read that is not contested: a good time for work of the caller's own. ``done`` gets each
    flight when both sides are done. ``settled`` gets what reads decide.

    With ``insist``, a fast zero that the driver cannot do fast is repeated as a normal zero. A
    guest would do that itself, but a replay has no guest. ``allowed`` are errno values that the
    test side may return (tracer/mirror/forgiven.py).
    """

    def __init__(
        self,
        reference: FileDevice,
        test: Device,
        comparison: Comparison,
        done: Callable[[Flight], None],
        meanwhile: Callable[[Flight], None] | None = None,
        *,
        settled: Callable[[Settled], None] = lambda settled: None,
        hold: bool = False,
        insist: bool = False,
        allowed: frozenset[int] = frozenset(),
    ) -> None:
        self.reference = reference
        self.test = test
        self.comparison = comparison
        self._done = done
        self._meanwhile = meanwhile
        self._hold = hold
        self._insist = insist
        self._allowed = allowed
        self.failed: StorageError | None = None
        """Why the reference is not right any more: it could not be written. Check this after each
        round of events."""
        self._contention = Contention(reference, comparison, settled, self._fail)
        self._candidates = self._contention.candidates
        self._event = 0
        self._contested_done = 0
        self._devices: dict[int, Device] = {}  # by connection, where it has one of its own
        self._active: dict[int, Flight] = {}
        self._active_ops: dict[int, Op] = {}
        self._ready: list[Flight] = []
        self._unapplied: list[tuple[Flight, Iterable[tuple[int, int]]]] = []
        self._passed_over = MUTATING - changing_kinds(comparison.trim_rule)

    @property
    def in_flight(self) -> int:
        """The number of ops that were submitted and are not done."""
        return len(self._active)

    def connect(self, connection: int, device: Device) -> None:
        """Send the ops of a connection over ``device``, which is another connection to the test
        side."""
        self._devices[connection] = device

    def disconnect(self, connection: int) -> Device | None:
        """Forget the device of a connection that is not used any more, and return it. None if ops
        are still in flight on it."""
        if any(op.connection == connection for op in self._active_ops.values()):
            return None
        return self._devices.pop(connection, None)

    def reopened(self, test: Device) -> None:
        """Go on with another test device, on the same image. Nothing is in flight."""
        self.test = test
        self._devices.clear()

    @property
    def lost(self) -> Exception | None:
        """Why the test side takes no more requests; None while it does."""
        if self.test.lost is not None or not self._devices:
            return self.test.lost
        return next((one.lost for one in self._devices.values() if one.lost is not None), None)

    @property
    def progress(self) -> int:
        """A number that grows with each piece of an answer that the test side sends."""
        return self.test.progress + sum(one.progress for one in self._devices.values())

    def oldest(self) -> Flight | None:
        """Return the flight that has been in flight longest; None if nothing is in flight."""
        return next(iter(self._active.values()), None)

    @property
    def open_bytes(self) -> int:
        """How many bytes have more than one possible value: cheap, and a bound of ``unsettled``."""
        return self._candidates.bytes

    def unsettled(self) -> list[tuple[int, int]]:
        """Return the ranges whose value only a read can tell, as reads of the test side: in pieces
        of its block size and of at most SETTLE_STEP bytes. Nothing that changes them is in
        flight."""
        size = self.reference.export.size
        self._decide(0, size)
        return [
            (start, min(start + SETTLE_STEP, last, size))
            for first, last in self._contention.unsettled().aligned(self.test.export.sizes.minimum)
            for start in range(first, min(last, size), SETTLE_STEP)
        ]

    def give_up(self) -> None:
        """Take what is unsettled for unknown."""
        self._decide(0, self.reference.export.size)
        self._contention.give_up()

    def _decide(self, start: int, end: int) -> None:
        """Bring the reference in line in contested ranges where one value is left."""
        self.apply()
        oldest = self.oldest()
        self._contention.decide(start, end, self._event if oldest is None else oldest.since)

    def submit(self, flight: Flight) -> None:
        """Accept an op. The next ``pump`` sends it, unless it has to wait for others."""
        op = flight.op
        self._event += 1
        flight.since = self._event
        for earlier in conflicting(op, self._active_ops.values()):
            blocker = self._active[earlier.seq]
            if not (self._hold or blocker.forgiven):
                self._contention.conflict(flight, blocker)
                continue
            if blocker.waiters is None:
                blocker.waiters = []
            blocker.waiters.append(flight)
            flight.blockers += 1
        if self._candidates:
            self._contention.enter(flight)
        self._active[op.seq] = flight
        self._active_ops[op.seq] = op
        if not flight.blockers:
            self._ready.append(flight)

    def pump(self) -> None:
        """Do all ops that wait for no other op, a burst at a time.

        Each burst goes to the test side first, so that the driver works while the reference does
        its part in this process.
        """
        test, devices = self.test, self._devices
        while self._ready:
            burst, self._ready = self._ready, []
            for flight in burst:
                op = flight.op
                flight.started = time.monotonic_ns()
                device = devices.get(op.connection, test) if devices else test
                device.submit(
                    op.kind, op.flags, op.offset, op.length, flight.data,
                    partial(self._tested, flight),
                )  # fmt: skip
            test.kick()
            for device in devices.values():
                device.kick()
            self.apply()
            for flight in burst:
                self._refer(flight)

    def apply(self) -> None:
        """Bring the reference in line with what has completed."""
        if not self._unapplied:
            return
        unapplied, self._unapplied = self._unapplied, []
        execute = self.reference.execute
        for flight, parts in unapplied:
            op, data = flight.op, flight.data
            for start, end in parts:
                piece = data
                if data is not None and end - start != op.length:
                    piece = memoryview(data)[start - op.offset : end - op.offset]
                error, _, _ = execute(op.kind, op.flags, start, end - start, piece)
                if error:
                    self._fail(op, error)

    def _fail(self, op: Op, error: int) -> None:
        """The reference could not take an op."""
        self.failed = self.failed or StorageError(
            f"op {op.describe()} failed on {self.reference.path}: {os.strerror(error)}"
        )

    def check(self, start: int, data: bytes, since: int) -> bool:
        """Whether the test side may hold ``data`` from byte ``start`` on. ``since`` is ``event``
        when it was asked for."""
        self.apply()
        end = start + len(data)
        expected = self.reference.read(start, len(data))
        wrong = self.comparison.differences(expected, data, start)
        if self._candidates:
            contested = self._contention.inside(start, end)
            wrong = wrong.without(contested)
            return not (wrong or self._contention.seen(start, data, since, self._event))
        return not wrong

    @property
    def event(self) -> int:
        """The number of the last event."""
        return self._event

    def _refer(self, flight: Flight) -> None:
        """Do the reference's part of an op, as far as it is not a change."""
        op = flight.op
        if op.kind not in MUTATING and not (flight.contested and op.kind == Kind.READ):
            started = time.monotonic_ns()
            op.reference_status, data, flight.extents = self.reference.execute(
                op.kind, op.flags, op.offset, op.length, None
            )
            if data is not None:
                flight.data = data
            op.reference_ns = time.monotonic_ns() - started
        flight.referred = True
        if self._meanwhile is not None and flight.data is not None:
            self._meanwhile(flight)
        if flight.tested:
            self._settle(flight)

    def _tested(self, flight: Flight, error: int, data: Data | None, extents: Extents) -> None:
        """The test side is done with an op."""
        op = flight.op
        if error == errno.ENOTSUP and self._insist and op.flags & FAST_ZERO:
            op.flags &= ~FAST_ZERO
            done = partial(self._tested, flight)
            device = self._devices.get(op.connection, self.test)
            device.submit(op.kind, op.flags, op.offset, op.length, flight.data, done)
            device.kick()
            return
        op.test_ns = time.monotonic_ns() - flight.started
        op.test_status = error
        flight.test_data, flight.test_extents = data, extents
        if error and error in self._allowed:
            flight.forgiven = True
            if op.kind in MUTATING and not flight.contested:
                self.apply()
                done = partial(self._forgive, flight)
                reference, test, comparison = self.reference, self.test, self.comparison
                Forgiven(reference, test, comparison, op, flight.data, done).next()
                return
        flight.tested = True
        if flight.referred:
            self._settle(flight)

    def _forgive(self, flight: Flight, wrong: list[Difference]) -> None:
        """The reference holds what the failed op has left."""
        flight.tested = True
        flight.differences = wrong or NO_DIFFERENCES
        if flight.referred:
            self._settle(flight)

    def _settle(self, flight: Flight) -> None:
        """Both sides are done: compare, and release the ops that waited for this op."""
        op = flight.op
        self._event += 1
        if op.refused or flight.forgiven:
            op.reference_status = op.test_status
        elif op.test_status or op.reference_status:
            one_side = bool(op.test_status) != bool(op.reference_status)
            if one_side and op.test_status != CONNECTION_LOST:
                statuses = op.reference_status, op.test_status
                flight.differences = [Difference(op, Fault.STATUS, op.offset, op.length, *statuses)]
        elif op.kind == Kind.READ:
            if flight.contested:
                flight.differences = self._compare_contested(flight)
            elif flight.data != flight.test_data:
                flight.differences = self._compare(flight)
        elif op.kind == Kind.BLOCK_STATUS:
            flight.differences = self._compare_status(flight)
        if op.kind in MUTATING:
            self._changed(flight)
        del self._active[op.seq], self._active_ops[op.seq]
        if flight.waiters:
            for waiter in flight.waiters:
                waiter.blockers -= 1
                if not waiter.blockers:
                    self._ready.append(waiter)
        if flight.contested:
            self._contested_done += 1
            if self._contested_done % DECIDE_ALL == 0:
                self._decide(0, self.reference.export.size)
            else:
                self._decide(op.offset, op.end)
        self._done(flight)

    def _changed(self, flight: Flight) -> None:
        """The test side is done with an op that may change data."""
        op = flight.op
        if flight.contested:
            parts: Iterable[tuple[int, int]] = self._contention.changed(flight, self._event)
            self.comparison.done(op, parts)
        elif flight.forgiven:
            self.comparison.touched.note(op)  # the reference is in line already
            return
        else:
            parts = ((op.offset, op.end),)
            self.comparison.done(op)
        if op.kind not in self._passed_over and not op.reference_status:
            self._unapplied.append((flight, parts))

    def _compare(self, flight: Flight) -> list[Difference]:
        """Compare the bytes that both sides read."""
        expected, actual = flight.data, flight.test_data
        assert isinstance(expected, bytes | bytearray)
        assert actual is not None
        offset = flight.op.offset
        ranges = tuple(self.comparison.differences(expected, actual, offset))
        return _difference(flight.op, ranges, expected, actual)

    def _compare_contested(self, flight: Flight) -> list[Difference]:
        """Compare the bytes of a read, some of which have more than one right value."""
        self.apply()
        op = flight.op
        started = time.monotonic_ns()
        wrong = self._contention.read(flight, self._event)
        op.reference_ns = time.monotonic_ns() - started
        expected, actual = flight.data, flight.test_data
        assert isinstance(expected, bytearray)
        assert actual is not None
        found = RangeSet(self.comparison.differences(expected, actual, op.offset))
        if not wrong:
            return _difference(op, tuple(found), expected, actual)
        right = bytearray(expected)
        for piece in wrong:
            end = piece.start + len(piece.expected)
            right[piece.start - op.offset : end - op.offset] = piece.expected
            found.add(piece.start, end)
        return _difference(op, tuple(found), right, actual)

    def _compare_status(self, flight: Flight) -> list[Difference]:
        """Check the test side's block status and compute the guest's.

        Data that the driver calls a hole is a fault: a copy that skips holes loses it.
        """
        self.apply()
        op = flight.op
        extents = flight.test_extents
        holes = false_holes(self.reference, self.comparison, op.offset, op.length, extents)
        if flight.contested:
            hole = next(self._contested_holes(flight, holes), None)
        else:
            hole = next(holes, None)
        flight.extents = common_extents(flight.extents, extents, op.length)
        if hole is None:
            return NO_DIFFERENCES
        start, data = hole
        end = start + len(data)
        return [
            Difference(
                op, Fault.BLOCK_STATUS, start, len(data),
                expected=data, actual=bytes(len(data)), ranges=((start, end),),
            )
        ]  # fmt: skip

    def _contested_holes(
        self, flight: Flight, holes: Iterable[tuple[int, bytes]]
    ) -> Iterator[tuple[int, bytes]]:
        """Yield the holes that are false outside of contested ranges, and those inside of them that
        no value allows."""
        op, contention = flight.op, self._contention
        contested = contention.inside(op.offset, op.end)
        for start, data in holes:
            if not contested.overlaps(start, start + len(data)):
                yield start, data
        at = op.offset
        for length, state in flight.test_extents:
            stop = min(at + length, op.end)
            for start, end in contested.within(at, stop) if state & State.ZERO else ():
                for wrong in contention.seen(start, bytes(end - start), flight.since, self._event):
                    yield wrong.start, wrong.expected
            at = stop


def _difference(
    op: Op,
    ranges: tuple[tuple[int, int], ...],
    expected: bytes | bytearray,
    actual: bytes | bytearray,
) -> list[Difference]:
    """Return the difference of a read in the ranges, if there are any."""
    if not ranges:
        return NO_DIFFERENCES
    start, end = ranges[0][0], ranges[-1][1]
    piece = slice(start - op.offset, end - op.offset)
    return [
        Difference(
            op, Fault.DATA, start, end - start,
            expected=bytes(expected[piece]), actual=bytes(actual[piece]), ranges=ranges,
        )
    ]  # fmt: skip
