"""The mirror of a recording without a driver: each op is done on the reference image alone.

It has the part of ``Mirror``'s interface that a recording uses. No op ever waits for another: the
reference does each op completely before the next one begins.
"""

import time
from collections.abc import Callable

from tracer.disk.device import Device
from tracer.disk.file import FileDevice
from tracer.mirror.mirror import Flight
from tracer.op import MUTATING, TrimRule, changing_kinds


class Alone:
    """Does ops on a reference. ``referred`` gets each flight when its op is done, then ``done``
    gets it, without differences."""

    def __init__(
        self,
        reference: FileDevice,
        trim_rule: TrimRule,
        done: Callable[[Flight], None],
        referred: Callable[[Flight], None],
    ) -> None:
        self.reference = reference
        self.test: Device = reference
        """The disk that the guest uses."""
        self._done = done
        self._referred = referred
        self._ready: list[Flight] = []
        self._passed_over = MUTATING - changing_kinds(trim_rule)

    @property
    def in_flight(self) -> int:
        """The number of ops that were submitted and are not done."""
        return len(self._ready)

    def oldest(self) -> Flight | None:
        """Return None: no op waits for a driver."""
        return None

    def submit(self, flight: Flight) -> None:
        """Accept an op. The next ``pump`` does it."""
        self._ready.append(flight)

    def pump(self) -> None:
        """Do all ops that were submitted, in their order."""
        ready, self._ready = self._ready, []
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
            self._referred(flight)
            self._done(flight)
