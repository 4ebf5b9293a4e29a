"""Compare the disk after a power cut with what the guest was promised."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from replay.below.promises import Promised, Promises
from replay.below.reading import data_ranges, read
from replay.below.states.opened import CannotOpen
from tracer.candidates.durable import broken_promises
from tracer.candidates.evidence import Evidence
from tracer.closing import Closing
from tracer.disk.device import Device
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.disk.raw import make_raw
from tracer.errors import StorageError
from tracer.mirror.scope import SAMPLES, sample
from tracer.mirror.touched import GRAIN
from tracer.op import SECTOR, Kind, Leaves, TrimRule, effect
from tracer.ranges import RangeSet

MUCH = 8 << 20
"""Bytes where no op came but the driver calls it data: up to so many are read for each state. If
there are more, a sample of them is read, another one for each state."""

RULE = TrimRule.OLD_OR_ZERO
"""What a trimmed range may read as after a power cut: never another sector's data."""


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
        self._held = RangeSet()
        """Where the disk may have to hold data."""

    def judge(self, device: Device, moment: int) -> Judged:
        """Read the disk and judge it. Raises CannotOpen where the driver does not answer,
        TraceError, OSError."""
        if device.export.size < self._size:
            raise CannotOpen(f"the disk has {device.export.size} bytes in place of {self._size}")
        self._advance(moment)
        found: list[Evidence] = []
        for start, data in read(self._loop, device, self._places(device)):
            newest = self._newest.read(start, len(data))
            if data == newest:
                continue
            oldest = self._oldest.read(start, len(data))
            if data != oldest:
                found += self._wrong(start, bytes(data), newest, oldest, moment)
        broken = RangeSet((one.offset, one.end) for one in found)
        return Judged(broken.aligned(SECTOR), tuple(found))

    def _places(self, device: Device) -> RangeSet:
        """Return what to read: what ops touched and what the driver calls data, as far as that is
        not too much. What must be zeroes and what the driver calls zeroes is skipped then."""
        where = self._touched.copy()
        if device.has_block_status:
            data = data_ranges(self._loop, device, self._size)
            known = RangeSet(part for one in data for part in self._touched.within(*one))
            for start, end in self._held:
                known.add(start, end)
            if where.without(known).total() > MUCH:
                where = known
            where = _joined_sets(where, self._some(data.without(self._touched)))
        return RangeSet(where.within(0, self._size))

    def _some(self, data: RangeSet) -> RangeSet:
        """Return ranges where no op came, or a sample of them."""
        if data.total() <= MUCH:
            return data
        self._reads += 1
        return sample(data.aligned(GRAIN), SAMPLES, self._reads)

    def close(self) -> None:
        self._newest.close()
        self._oldest.close()

    def _advance(self, moment: int) -> None:
        """Do what was submitted until a moment."""
        if moment == self._moment:
            return
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
        self._held = _joined_sets(_data_of(self._newest), _data_of(self._oldest))

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


def _blank(path: Path, size: int) -> FileDevice:
    path.unlink(missing_ok=True)
    make_raw(path, size)
    return FileDevice(path, durable=False)


def _data_of(image: FileDevice) -> RangeSet:
    """Return the ranges of an image that are no holes."""
    _, _, extents = image.execute(Kind.BLOCK_STATUS, 0, 0, image.export.size, None)
    found, at = RangeSet(), 0
    for length, state in extents:
        if not state:
            found.add(at, at + length)
        at += length
    return found


def _joined_sets(one: RangeSet, other: RangeSet) -> RangeSet:
    found = one.copy()
    for start, end in other:
        found.add(start, end)
    return found


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


def newest_promise(promises: Promises, sector: int, moment: int) -> Promised | None:
    """Return the last change of a sector that is durable at a moment; None if none is."""
    durable = [
        change
        for change in promises.over(sector * SECTOR, (sector + 1) * SECTOR, moment)
        if change.durable <= moment
    ]
    return durable[-1] if durable else None
