"""A mirror between a file and a fake disk in memory, which completes what is in flight in any
order."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings

from tracer.closing import Closing
from tracer.disk.device import Data, Done
from tracer.disk.file import FileDevice
from tracer.mirror.comparison import Comparison
from tracer.mirror.difference import Difference
from tracer.mirror.flight import Flight
from tracer.mirror.mirror import Mirror
from tracer.nbd import protocol as p
from tracer.op import SECTOR, Buffer, Extents, Flag, Kind, Op, TrimRule

SECTORS = 24


SIZE = SECTORS * SECTOR


HOLE = int(p.State.HOLE | p.State.ZERO)


# the reference image is emptied by every example
many = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


Key = tuple[int, int, int, bytes]
"""What tells requests apart: kind, offset, length, data."""


@dataclass
class Fake:
    """A disk in memory. ``finish`` completes one of the requests in flight, and only then does it.

    How it treats trims, fast zeroes and block status is decided by their offsets and lengths alone,
    so that a model can tell. ``defect`` may answer a request in its own way, or with None leave it.
    """

    export: p.Export = field(default_factory=lambda: p.Export(SIZE, 0))
    lost: Exception | None = None
    defect: Callable[[Key], tuple[int, Data | None, Extents] | None] = lambda key: None
    sectors_only: bool = False
    data: bytearray = field(default_factory=lambda: bytearray(SIZE))
    pending: list[tuple[int, int, int, int, bytes, Done]] = field(default_factory=list)
    log: list[tuple[str, Key]] = field(default_factory=list)

    def submit(
        self, kind: int, flags: int, offset: int, length: int, data: Buffer | None, done: Done
    ) -> None:
        payload = bytes(data or b"")
        self.log.append(("start", (kind, offset, length, payload)))
        self.pending.append((kind, flags, offset, length, payload, done))

    def kick(self) -> None:
        """Everything is on its way already."""

    def close(self) -> None:
        """Nothing to give back."""

    def finish(self, index: int = 0) -> None:
        kind, flags, offset, length, payload, done = self.pending.pop(index)
        key = (kind, offset, length, payload)
        answer = self.defect(key)
        if answer is None:
            answer = self.execute(kind, flags, offset, length, payload)
        self.log.append(("end", key))
        done(*answer)

    def execute(
        self, kind: int, flags: int, offset: int, length: int, payload: bytes
    ) -> tuple[int, Data | None, Extents]:
        piece = slice(offset, offset + length)
        if kind == Kind.READ:
            return 0, bytes(self.data[piece]), []
        if kind == Kind.WRITE:
            self.data[piece] = payload
        elif kind == Kind.ZERO:
            if flags & Flag.FAST_ZERO and not is_fast(offset):
                return errno.ENOTSUP, None, []
            self.data[piece] = bytes(length)
        elif kind == Kind.TRIM:
            how = (offset + length) // SECTOR % (2 if self.sectors_only else 3)
            if how:
                self.data[piece] = bytes(length) if how == 1 else b"?" * length
        elif kind == Kind.BLOCK_STATUS:
            return 0, None, self.status(offset, length)
        return 0, None, []

    def status(self, offset: int, length: int) -> Extents:
        """Honest, but not always exact: it may call zeroes data, and answer for less or for
        more."""
        step = SECTOR if length % 3 else length
        extents = []
        for at in range(offset, offset + length, step):
            size = min(step, offset + length - at)
            zero = not any(self.data[at : at + size])
            extents.append((size, HOLE if zero and at % 1024 == 0 else 0))
        if length % 5 == 0:
            return extents[: max(1, len(extents) // 2)]
        if length % 7 == 0:
            size, state = extents[-1]
            extents[-1] = (size + (0 if state else 4096), state)
        return extents


def is_fast(offset: int) -> bool:
    return offset // SECTOR % 2 == 0


class Bench(Closing):
    """A mirror between a reference file and a fake, and what came of it."""

    def __init__(
        self,
        path: Path,
        fake: Fake | None = None,
        rule: TrimRule = TrimRule.ANY,
        *,
        hold: bool = True,
        **more: bool,
    ) -> None:
        path.write_bytes(b"")
        with path.open("r+b") as file:
            file.truncate(SIZE)
        self.reference = FileDevice(path)
        self.fake = fake or Fake()
        self.comparison = Comparison(rule)
        self.done: list[Flight] = []
        self.meanwhile: list[Flight] = []
        self.mirror = Mirror(
            self.reference,
            self.fake,
            self.comparison,
            self.done.append,
            self.meanwhile.append,
            hold=hold,
            **more,
        )
        self.ops: list[Op] = []
        self.payloads: list[bytes] = []

    @property
    def differences(self) -> list[Difference]:
        """What the two sides differ in, in the order in which ops were done."""
        return [difference for flight in self.done for difference in flight.differences]

    def submit(
        self, kind: int, offset: int = 0, length: int = 0, data: bytes | None = None, flags: int = 0
    ) -> Flight:
        op = Op(len(self.ops), int(kind), flags, offset, length)
        self.ops.append(op)
        self.payloads.append(data or b"")
        flight = Flight(op, data)
        self.mirror.submit(flight)
        return flight

    def run(self, *request: object) -> Flight:
        """Submit a request and let everything finish."""
        flight = self.submit(*request)  # type: ignore[arg-type]
        self.settle()
        return flight

    def settle(self, pick: Callable[[int], int] = lambda count: 0) -> None:
        """Let everything finish; ``pick`` says which of so many is next."""
        self.pump()
        while self.fake.pending:
            self.fake.finish(pick(len(self.fake.pending)))
            self.pump()

    def pump(self) -> None:
        """Do what a caller does in a turn."""
        self.mirror.pump()
        self.mirror.apply()

    def close(self) -> None:
        self.reference.close()

    def reference_bytes(self) -> bytes:
        return self.reference.read(0, SIZE)


def ranges(difference: Difference) -> list[tuple[int, int]]:
    """Sectors: first and one beyond the last."""
    return [(start // SECTOR, -(-end // SECTOR)) for start, end in difference.ranges]


def sectors(first: int, count: int = 1, value: bytes = b"w") -> tuple[int, int, bytes]:
    """Offset, length and data of a write."""
    return first * SECTOR, count * SECTOR, value * (count * SECTOR)
