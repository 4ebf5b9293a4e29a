"""Compare the disk after a power cut with what the guest was promised."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from replay.below.opened import CannotOpen
from replay.below.promises import Promised, Promises
from tracer.candidates.durable import broken_promises
from tracer.candidates.evidence import Evidence
from tracer.closing import Closing
from tracer.disk.device import Data, Device
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.disk.raw import make_raw
from tracer.disk.waiter import Waiter, ask
from tracer.errors import DriverHung, StorageError
from tracer.mirror.scope import SAMPLES, sample
from tracer.mirror.touched import GRAIN
from tracer.nbd.protocol import State
from tracer.op import SECTOR, Extents, Kind, Leaves, TrimRule, effect
from tracer.ranges import RangeSet

PIECE = 1 << 20
"""Bytes in a read."""

MUCH = 8 << 20
"""Bytes where no op came but the driver calls it data: up to so many are read for each state. If
there are more, a sample of them is read, another one for each state."""

RULE = TrimRule.OLD_OR_ZERO
"""What a trimmed range may read as after a power cut: never another sector's data."""

TIMEOUT = 30.0
"""Seconds in which the driver must answer."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a state's disk holds that it must not."""

    broken: RangeSet = field(default_factory=RangeSet)
    """Byte ranges, whole sectors."""
    evidence: tuple[Evidence, ...] = ()
    """Their bytes, and what they should hold (of the values that are allowed, the newest)."""


class Judge(Closing):
    """Judges disks at ascending moments. ``folder`` gets an image of the disk's size."""

    def __init__(self, promises: Promises, size: int, folder: Path, loop: Loop) -> None:
        self._promises = promises
        self._size = size
        self._loop = loop
        self._newest = _blank(folder / "newest.raw", size)
        """What the disk holds if nothing is lost."""
        self._oldest = _blank(folder / "oldest.raw", size)
        """What it holds if all is lost that may be."""
        self._sent = 0
        changes = promises.changes
        self._by_durable = sorted(range(len(changes)), key=lambda n: (changes[n].durable, n))
        self._durable = 0
        self._touched = RangeSet()
        self._known: dict[tuple[int, bytes], bool] = {}
        """Sectors that were judged at this moment: whether they are right."""
        self._moment = -1
        self._reads = 0

    def judge(self, device: Device, moment: int) -> Judged:
        """Read the disk and judge it. Raises CannotOpen where the driver does not answer,
        TraceError, OSError."""
        if device.export.size < self._size:
            raise CannotOpen(f"the disk has {device.export.size} bytes in place of {self._size}")
        self._advance(moment)
        where = self._touched.copy()
        more = self._data(device).without(where)
        if more.total() > MUCH:
            more = sample(more.aligned(GRAIN), SAMPLES, self._reads)
            self._reads += 1
        for start, end in more:
            where.add(start, end)
        found: list[Evidence] = []
        for start, data in self._read(device, RangeSet(where.within(0, self._size))):
            newest = self._newest.read(start, len(data))
            if data == newest:
                continue
            oldest = self._oldest.read(start, len(data))
            if data != oldest:
                found += self._wrong(start, bytes(data), newest, oldest, moment)
        broken = RangeSet((one.offset, one.end) for one in found)
        return Judged(broken.aligned(SECTOR), tuple(found))

    def close(self) -> None:
        self._newest.close()
        self._oldest.close()

    def _advance(self, moment: int) -> None:
        """Do what was submitted until a moment."""
        if moment != self._moment:
            self._known.clear()
            self._moment = moment
        changes = self._promises.changes
        while self._sent < len(changes) and changes[self._sent].sent <= moment:
            change = changes[self._sent]
            self._sent += 1
            self._touched.add(change.op.offset // SECTOR * SECTOR,
                              -(-change.op.end // SECTOR) * SECTOR)  # fmt: skip
            self._do(self._newest, change, [(change.op.offset, change.op.end)])
        while self._durable < len(changes):
            number = self._by_durable[self._durable]
            change = changes[number]
            if change.durable > moment:
                break
            self._durable += 1
            where = RangeSet([(change.op.offset, change.op.end)])
            for later in self._promises.over(change.op.offset, change.op.end, moment):
                if later.op.seq > change.op.seq and later.durable <= moment:
                    where.remove(later.op.offset, later.op.end)
            self._do(self._oldest, change, where)

    def _do(self, image: FileDevice, change: Promised, where: Iterable[tuple[int, int]]) -> None:
        """Do those parts of a change that are in ``where``."""
        op = change.op
        leaves = effect(op, RULE).leaves
        if leaves is Leaves.OLD:
            return
        data = self._promises.data(change) if leaves is Leaves.DATA else None
        for start, end in where:
            part = None if data is None else data[start - op.offset : end - op.offset]
            kind = Kind.ZERO if part is None else Kind.WRITE
            error, _, _ = image.execute(kind, 0, start, end - start, part)
            if error:
                raise StorageError(f"cannot write {image.path}: {os.strerror(error)}")

    def _wrong(
        self, start: int, data: bytes, expected: bytes, oldest: bytes, moment: int
    ) -> list[Evidence]:
        """Return the sectors of a read that the disk must not hold."""
        pieces = []
        for at in range(0, len(data), SECTOR):
            actual = data[at : at + SECTOR]
            if actual in (expected[at : at + SECTOR], oldest[at : at + SECTOR]):
                continue
            right = self._known.get((start + at, actual))
            if right is not True:
                pieces.append(Evidence(start + at, expected[at : at + SECTOR], actual))
        if not pieces:
            return []
        over = list(self._promises.over(pieces[0].offset, pieces[-1].end, moment))
        changes = [change.change(self._promises.data(change), moment) for change in over]
        # most are right, and cost less together
        wrong: list[Evidence] = []
        for run in _joined(pieces):
            if broken_promises([run], changes, RULE):
                wrong += broken_promises(_sectors(run), changes, RULE)
        places = {one.offset for one in wrong}
        for piece in pieces:
            self._known[piece.offset, piece.actual] = piece.offset not in places
        return wrong

    def _data(self, device: Device) -> RangeSet:
        """Return what block status does not call zeroes. Where the driver has none, that is
        nothing: then only what ops touched is read."""
        found, at = RangeSet(), 0
        if not device.has_block_status:
            return found
        wait = Waiter(self._loop, device, TIMEOUT)
        while at < self._size:
            try:
                error, _, extents = ask(wait, device, Kind.BLOCK_STATUS, at,
                                        min(self._size - at, 1 << 30), "block status")  # fmt: skip
            except DriverHung as hung:
                raise CannotOpen(str(hung)) from hung
            if error or not extents:
                raise CannotOpen(f"block status at sector {at // SECTOR} fails (errno {error})")
            for length, state in extents:
                if not state & ZERO:
                    found.add(at, min(at + length, self._size))
                at += length
        return found

    def _read(self, device: Device, where: RangeSet) -> Iterator[tuple[int, Data]]:
        """Yield the bytes of ranges, in pieces. Raises CannotOpen."""
        wait = Waiter(self._loop, device, TIMEOUT)
        pieces = [
            (at, min(at + PIECE, end)) for start, end in where for at in range(start, end, PIECE)
        ]
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


def _blank(path: Path, size: int) -> FileDevice:
    path.unlink(missing_ok=True)
    make_raw(path, size)
    return FileDevice(path, durable=False)


def _joined(pieces: Iterable[Evidence]) -> Iterator[Evidence]:
    """Join pieces that touch."""
    run: list[Evidence] = []
    for piece in pieces:
        if run and run[-1].end != piece.offset:
            yield _one(run)
            run = []
        run.append(piece)
    if run:
        yield _one(run)


def _one(run: list[Evidence]) -> Evidence:
    expected = b"".join(piece.expected for piece in run)
    return Evidence(run[0].offset, expected, b"".join(piece.actual for piece in run))


def _sectors(run: Evidence) -> list[Evidence]:
    """Cut a run of sectors into sectors."""
    return [
        Evidence(run.offset + at, run.expected[at : at + SECTOR], run.actual[at : at + SECTOR])
        for at in range(0, len(run.actual), SECTOR)
    ]


ZERO = int(State.ZERO)

AHEAD = 4 * PIECE
"""Bytes of the disk that are asked for ahead: the driver works while we compare."""


def newest_promise(promises: Promises, sector: int, moment: int) -> Promised | None:
    """Return the last change of a sector that is durable at a moment; None if none is."""
    durable = [
        change
        for change in promises.over(sector * SECTOR, (sector + 1) * SECTOR, moment)
        if change.durable <= moment
    ]
    return durable[-1] if durable else None
