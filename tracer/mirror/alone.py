"""The mirror of a recording without a driver: each op is done on the reference image alone.

It has the part of ``Mirror``'s interface that a recording uses. No op ever waits for another: the
reference does each op completely before the next one begins.
"""

import time
from collections.abc import Callable

from tracer.disk.device import Device
from tracer.disk.file import FileDevice
from tracer.errors import StorageError
from tracer.mirror.contention import Settled
from tracer.mirror.flight import Flight
from tracer.op import MUTATING, Op, TrimRule, changing_kinds, conflicting


class Alone:
    """Does ops on a reference. ``meanwhile`` gets each flight with data when its op is done, then
    ``done`` gets it, without differences."""

    def __init__(
        self,
        reference: FileDevice,
        trim_rule: TrimRule,
        done: Callable[[Flight], None],
        meanwhile: Callable[[Flight], None],
        settled: Callable[[Settled], None] = lambda settled: None,
    ) -> None:
        self.reference = reference
        self.test: Device = reference
        """The disk that the guest uses."""
        self._done = done
        self._meanwhile = meanwhile
        self._settled = settled
        self.failed: StorageError | None = None
        """As ``Mirror.failed``. It stays None: each op says itself whether it failed."""
        self._ready: list[Flight] = []
        self._passed_over = MUTATING - changing_kinds(trim_rule)

    @property
    def in_flight(self) -> int:
        """The number of ops that were submitted and are not done."""
        return len(self._ready)

    @property
    def lost(self) -> Exception | None:
        """As ``Mirror.lost``."""
        return self.test.lost

    def oldest(self) -> Flight | None:
        """Return None: no op waits for a driver."""
        return None

    def submit(self, flight: Flight) -> None:
        """Accept an op. The next ``pump`` does it."""
        self._ready.append(flight)

    def pump(self) -> None:
        """Do all ops that were submitted, in their order."""
        ready, self._ready = self._ready, []
        changes: list[Op] = []
        now, execute = time.monotonic_ns, self.reference.execute
        for flight in ready:
            op = flight.op
            started = now()
            if op.kind not in self._passed_over:
                error, data, flight.extents = execute(
                    op.kind, op.flags, op.offset, op.length, flight.data
                )
                op.reference_status = op.test_status = error
                if data is not None:
                    flight.data = data
            op.reference_ns = now() - started
            if flight.data is not None and not op.reference_status:
                self._meanwhile(flight)
            if op.kind in MUTATING and len(ready) > 1:
                self._settle(op, changes)
                changes.append(op)
            self._done(flight)

    def _settle(self, op: Op, earlier: list[Op]) -> None:
        """To whoever reads the trace, ops look as if in flight together. Say that the later one is
        what the disk holds where they conflict."""
        for other in conflicting(op, earlier):
            start, end = max(op.offset, other.offset), min(op.end, other.end)
            data = self.reference.read(start, end - start)
            self._settled(Settled(start, end, op.seq, op.seq, data))

    open_bytes = 0
    """As ``Mirror.open_bytes``: each op is done completely before the next one."""

    def connect(self, connection: int, device: Device) -> None:
        """As ``Mirror.connect``: there is no driver to connect to."""

    def disconnect(self, connection: int) -> Device | None:
        """As ``Mirror.disconnect``."""
        return None

    def unsettled(self) -> list[tuple[int, int]]:
        """As ``Mirror.unsettled``."""
        return []

    def give_up(self) -> None:
        """As ``Mirror.give_up``."""

    def apply(self) -> None:
        """As ``Mirror.apply``: each op has changed the reference already."""
