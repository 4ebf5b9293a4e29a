"""The mirror: do each op on both sides, in a safe order, and compare the results.

Recording and replay do all their ops here. An op that conflicts with ops in flight waits for them.
All other ops reach the driver in the order of submission and are in flight together. So the driver
is to blame for any difference.

    mirror.submit(Flight(op, data))     # any number of times
    mirror.pump()                       # sends to the test side, then does the reference's part
    ... done(flight) is called when both sides are done, with the differences in flight.differences
"""

import errno
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from tracer.disk.device import CONNECTION_LOST, Data, Device
from tracer.disk.file import FileDevice
from tracer.mirror.block_status import common_extents, false_holes
from tracer.mirror.comparison import Comparison
from tracer.mirror.difference import Difference
from tracer.mirror.forgiven import Forgiven
from tracer.op import (
    FAST_ZERO,
    MUTATING,
    Buffer,
    Extents,
    Fault,
    Kind,
    Op,
    changing_kinds,
    conflicting,
)

MAX_OPS = 256
"""The most ops that callers keep in flight: twice the need of 16 connections with queue depth 8."""

MAX_BYTES = 64 << 20
"""The most bytes of reads and writes that callers keep in flight, so that memory stays bounded:
enough for two requests of the largest size."""

NO_DIFFERENCES: list[Difference] = []
"""The list of nearly every flight, shared to save time and memory. It must not be changed."""


class Flight:
    """An op on its way through the mirror.

    ``data`` is a write's payload, or, once the reference is done, the bytes that it read.
    ``extents`` is the block status for the guest, ``differences`` what the two sides disagree on.
    ``forgiven``: it failed on the test side with an errno that is allowed. ``token`` is for the
    caller.
    """

    __slots__ = (
        "blockers",
        "data",
        "differences",
        "extents",
        "forgiven",
        "op",
        "postponed",
        "referred",
        "started",
        "test_data",
        "test_extents",
        "tested",
        "token",
        "waiters",
    )

    def __init__(self, op: Op, data: Buffer | None = None, token: Any = None) -> None:
        self.op = op
        self.data = data
        self.token = token
        self.differences: list[Difference] = NO_DIFFERENCES
        self.extents: Extents = []
        self.blockers = 0
        self.waiters: list[Flight] | None = None
        self.started = 0
        self.tested = self.referred = self.postponed = self.forgiven = False
        self.test_data: Data | None = None
        self.test_extents: Extents = []


class Mirror:
    """Joins a reference and a test device.

    ``referred`` gets each flight when the reference is done, usually while the driver still works:
    a good time for work of the caller's own. ``done`` gets each flight when both sides are done.

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
        referred: Callable[[Flight], None] | None = None,
        *,
        insist: bool = False,
        allowed: frozenset[int] = frozenset(),
    ) -> None:
        self.reference = reference
        self.test = test
        self.comparison = comparison
        self._done = done
        self._referred = referred
        self._insist = insist
        self._allowed = allowed
        self._active: dict[int, Flight] = {}
        self._active_ops: dict[int, Op] = {}
        self._ready: list[Flight] = []
        self._passed_over = MUTATING - changing_kinds(comparison.trim_rule)

    @property
    def in_flight(self) -> int:
        """The number of ops that were submitted and are not done."""
        return len(self._active)

    def oldest(self) -> Flight | None:
        """Return the flight that has been in flight longest; None if nothing is in flight."""
        return next(iter(self._active.values()), None)

    def submit(self, flight: Flight) -> None:
        """Accept an op. The next ``pump`` after all earlier conflicting ops are done sends it."""
        op = flight.op
        for earlier in conflicting(op, self._active_ops.values()):
            blocker = self._active[earlier.seq]
            if blocker.waiters is None:
                blocker.waiters = []
            blocker.waiters.append(flight)
            flight.blockers += 1
        self._active[op.seq] = flight
        self._active_ops[op.seq] = op
        if not flight.blockers:
            self._ready.append(flight)

    def pump(self) -> None:
        """Do all ops that wait for no other op, a burst at a time.

        Each burst goes to the test side first, so that the driver works while the reference does
        the same ops in this process.
        """
        test = self.test
        while self._ready:
            burst, self._ready = self._ready, []
            for flight in burst:
                op = flight.op
                flight.started = time.monotonic_ns()
                test.submit(
                    op.kind, op.flags, op.offset, op.length, flight.data,
                    partial(self._tested, flight),
                )  # fmt: skip
            test.kick()
            for flight in burst:
                self._refer(flight)

    def _refer(self, flight: Flight) -> None:
        """Do an op on the reference."""
        op = flight.op
        if flight.forgiven and op.kind in MUTATING:
            return
        if not flight.tested and (
            # wait: the driver may refuse with ENOTSUP and do nothing ("NBD_CMD_WRITE_ZEROES")
            op.flags & FAST_ZERO
            # or fail as it may: then the reference does what the driver did
            or (self._allowed and op.kind in MUTATING)
        ):
            flight.postponed = True
            return
        started = time.monotonic_ns()
        if op.refused:
            op.reference_status = errno.ENOTSUP
        elif op.kind not in self._passed_over:
            op.reference_status, data, flight.extents = self.reference.execute(
                op.kind, op.flags, op.offset, op.length, flight.data
            )
            if data is not None:
                flight.data = data
        op.reference_ns = time.monotonic_ns() - started
        flight.referred = True
        if self._referred is not None:
            self._referred(flight)
        if flight.tested:
            self._settle(flight)

    def _tested(self, flight: Flight, error: int, data: Data | None, extents: Extents) -> None:
        """The test side is done with an op."""
        op = flight.op
        if error == errno.ENOTSUP and self._insist and op.flags & FAST_ZERO:
            op.flags &= ~FAST_ZERO
            done = partial(self._tested, flight)
            self.test.submit(op.kind, op.flags, op.offset, op.length, flight.data, done)
            self.test.kick()
            return
        op.test_ns = time.monotonic_ns() - flight.started
        op.test_status = error
        flight.test_data, flight.test_extents = data, extents
        flight.tested = True
        if error and error in self._allowed:
            flight.forgiven = True
            if op.kind in MUTATING:
                done = partial(self._forgive, flight)
                reference, test, comparison = self.reference, self.test, self.comparison
                Forgiven(reference, test, comparison, op, flight.data, done).next()
                return
        if flight.referred:
            self._settle(flight)
        elif flight.postponed:
            self._refer(flight)

    def _forgive(self, flight: Flight, wrong: list[Difference]) -> None:
        """The reference holds what the failed op has left."""
        flight.referred = True
        flight.differences = wrong or NO_DIFFERENCES
        self._settle(flight)

    def _settle(self, flight: Flight) -> None:
        """Both sides are done: compare, and release the ops that waited for this op."""
        op = flight.op
        if flight.forgiven:
            op.reference_status = op.test_status
        elif op.test_status or op.reference_status:
            one_side = bool(op.test_status) != bool(op.reference_status)
            if one_side and op.test_status != CONNECTION_LOST:
                statuses = op.reference_status, op.test_status
                flight.differences = [Difference(op, Fault.STATUS, op.offset, op.length, *statuses)]
        elif op.kind == Kind.READ:
            if flight.data != flight.test_data:
                flight.differences = self._compare(flight)
        elif op.kind == Kind.BLOCK_STATUS:
            flight.differences = self._compare_status(flight)
        if op.kind in MUTATING:
            if flight.forgiven:
                self.comparison.touched.note(op)
            else:
                self.comparison.done(op)
        del self._active[op.seq], self._active_ops[op.seq]
        if flight.waiters:
            for waiter in flight.waiters:
                waiter.blockers -= 1
                if not waiter.blockers:
                    self._ready.append(waiter)
        self._done(flight)

    def _compare(self, flight: Flight) -> list[Difference]:
        """Compare the bytes that both sides read."""
        expected, actual = flight.data, flight.test_data
        assert isinstance(expected, bytes | bytearray)
        assert actual is not None
        offset = flight.op.offset
        ranges = tuple(self.comparison.differences(expected, actual, offset))
        if not ranges:
            return NO_DIFFERENCES
        start, end = ranges[0][0], ranges[-1][1]
        piece = slice(start - offset, end - offset)
        return [
            Difference(
                flight.op, Fault.DATA, start, end - start,
                expected=bytes(expected[piece]), actual=bytes(actual[piece]), ranges=ranges,
            )
        ]  # fmt: skip

    def _compare_status(self, flight: Flight) -> list[Difference]:
        """Check the test side's block status and compute the guest's.

        Data that the driver calls a hole is a fault: a copy that skips holes loses it.
        """
        op = flight.op
        extents = flight.test_extents
        holes = false_holes(self.reference, self.comparison, op.offset, op.length, extents)
        hole = next(holes, None)
        flight.extents = common_extents(flight.extents, extents, op.length)
        if hole is None:
            return NO_DIFFERENCES
        start, expected = hole
        return [
            Difference(
                op, Fault.BLOCK_STATUS, start, len(expected),
                expected=expected, actual=bytes(len(expected)),
                ranges=((start, start + len(expected)),),
            )
        ]  # fmt: skip
