"""Read a disk: what block status calls data, and the bytes of ranges."""

from collections.abc import Iterator
from functools import partial

from replay.below.states.opened import CannotOpen
from tracer.disk.device import Data, Device
from tracer.disk.loop import Loop
from tracer.disk.waiter import Waiter, ask
from tracer.errors import DriverHung
from tracer.mirror.walk import LAST_STEP
from tracer.nbd.protocol import State
from tracer.op import SECTOR, Extents, Kind
from tracer.ranges import RangeSet

PIECE = 1 << 20
"""Bytes in a read."""

AHEAD = 4 * PIECE
"""Bytes of the disk that are asked for ahead: the driver works while we compare."""

TIMEOUT = 30.0
"""Seconds in which the driver must answer."""

ZERO = int(State.ZERO)
"""The flag as an int: the operators of IntFlag are slow."""


def data_ranges(loop: Loop, device: Device, size: int) -> RangeSet:
    """Return what block status does not call zeroes; nothing if the driver has no block status.
    Raises CannotOpen."""
    found, at = RangeSet(), 0
    if not device.has_block_status:
        return found
    wait = Waiter(loop, device, TIMEOUT)
    while at < size:
        try:
            error, _, extents = ask(wait, device, Kind.BLOCK_STATUS, at,
                                    min(size - at, LAST_STEP), "block status")  # fmt: skip
        except DriverHung as hung:
            raise CannotOpen(str(hung)) from hung
        if error or not extents:
            raise CannotOpen(f"block status at sector {at // SECTOR} fails (errno {error})")
        for length, state in extents:
            if not state & ZERO:
                found.add(at, min(at + length, size))
            at += length
    return found


def read(loop: Loop, device: Device, where: RangeSet) -> Iterator[tuple[int, Data]]:
    """Yield the bytes of ranges, in pieces. Raises CannotOpen."""
    wait = Waiter(loop, device, TIMEOUT)
    pieces = [(at, min(at + PIECE, end)) for start, end in where for at in range(start, end, PIECE)]
    answers: dict[int, tuple[int, Data | None]] = {}

    def done(at: int, error: int, data: Data | None, _: Extents) -> None:
        answers[at] = error, data

    sent = 0
    for at, end in pieces:
        while sent < len(pieces) and pieces[sent][0] <= at + AHEAD:
            start, stop = pieces[sent]
            device.submit(int(Kind.READ), 0, start, stop - start, None, partial(done, start))
            sent += 1
        device.kick()
        while at not in answers:
            try:
                wait(f"a read at sector {at // SECTOR}")
            except DriverHung as hung:
                raise CannotOpen(str(hung)) from hung
        error, data = answers.pop(at)
        if error or data is None:
            raise CannotOpen(f"reading sectors {at // SECTOR} to {end // SECTOR - 1} fails "
                             f"(errno {error})")  # fmt: skip
        yield at, data
