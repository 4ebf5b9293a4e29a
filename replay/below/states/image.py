"""The image file as it is after a power cut, built from the lower ops.

Two files go forward together: ``durable`` has what a completed flush covers, ``path`` the state.
To get from one state to the next, only what the missing ops of both wrote is written again.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from blake3 import blake3

from replay.below.states.points import Crash, Points
from tracer.below.op import LowerKind, LowerOp
from tracer.closing import Closing
from tracer.digest import is_zero
from tracer.disk import sparse
from tracer.files import pwrite_all
from tracer.ranges import RangeSet

GRAIN = 4096
"""Bytes that have a digest of their own."""

PIECE = 1 << 20
"""Bytes that are copied at a time."""

DataOf = Callable[[LowerOp, int, int], bytes]

DISK_END = 1 << 62
"""An end behind all images: a truncation changes all that comes after it."""


class CrashImage(Closing):
    """Builds crash states in a file, in ascending order of their points. Raises OSError, and what
    ``data`` raises.

    ``start`` is the image before the first lower op. ``data`` returns the bytes ``[start, end)`` of
    the file that a lower op wrote. ``folder`` gets two files of the image's size.
    """

    def __init__(
        self, start: Path, data: DataOf, points: Points, folder: Path, suffix: str
    ) -> None:
        self._points = points
        self._data = data
        self.path = folder / f"state.{suffix}"
        durable = folder / f"durable.{suffix}"
        for path in (self.path, durable):
            path.unlink(missing_ok=True)
            sparse.copy(str(start), str(path))
        self._durable = _File(durable)
        self._state = _File(self.path)
        self._crash = Crash(0)
        self._digests: dict[int, int] = {}
        self._digest = 0
        self._digest_again(RangeSet([(0, self._state.size)]))

    def build(self, crash: Crash) -> bytes:
        """Make the file hold a state; return its digest."""
        before = self._crash
        if crash.point < before.point:
            raise ValueError("states come in ascending order of their points")
        if crash.point > before.point:
            self._rewrite(Crash(before.point), self._touched(before))
            covered = self._points.covered(before.point), self._points.covered(crash.point)
            for op in self._points.ops[slice(*covered)]:
                self._apply(self._durable, op, None)
            for op in self._points.ops[before.point : crash.point]:
                changed = RangeSet([_range(op, self._state.size)])
                self._apply(self._state, op, None)
                self._digest_again(changed)
            before = Crash(crash.point)
        touched = self._touched(before)
        for start, end in self._touched(crash):
            touched.add(start, end)
        self._rewrite(crash, touched)
        return self._digest.to_bytes(16, "big") + self._state.size.to_bytes(8, "big")

    def close(self) -> None:
        """Close the files. A second call does nothing."""
        self._durable.close()
        self._state.close()

    def _touched(self, crash: Crash) -> RangeSet:
        """Return the bytes in which a state differs from the one that has all ops."""
        ops = self._points.ops
        found = RangeSet(_range(ops[number], DISK_END) for number in crash.missing)
        if crash.torn is not None:
            last = ops[crash.point - 1]
            found.add(last.offset + crash.torn, last.end)
        return found

    def _rewrite(self, crash: Crash, where: RangeSet) -> None:
        """Write the bytes ``where`` as a state has them. All else is right already."""
        self._crash = crash
        if not where:
            return
        first = self._points.covered(crash.point)
        done = [
            (op, crash.torn if number == crash.point - 1 else None)
            for number, op in enumerate(self._points.ops[first : crash.point], first)
            if number not in crash.missing
        ]
        size = self._durable.size
        largest = max(self._state.size, size)
        for op, torn in done:
            size = _size_after(size, op, torn)
            largest = max(largest, size)
        self._state.resize(largest)
        inside = RangeSet(where.within(0, largest))
        for start, end in inside:
            self._durable.copy_to(self._state, start, end)
        for op, torn in done:
            self._apply(self._state, op, inside, torn)
        self._state.resize(size)
        self._digest_again(inside)

    def _apply(
        self, file: "_File", op: LowerOp, where: RangeSet | None, torn: int | None = None
    ) -> None:
        """Do a lower op, or that part of it that is in ``where``."""
        end = op.end if torn is None else op.offset + torn
        if op.kind is LowerKind.TRUNCATE:
            if where is None:
                file.resize(op.length)
                return
            for first, last in where.within(op.length, DISK_END):
                file.zero(first, last)
            return
        if op.kind not in (LowerKind.WRITE, LowerKind.ZERO, LowerKind.DISCARD) or op.error:
            return
        if where is None and op.kind is not LowerKind.DISCARD:
            file.resize(max(file.size, end))
        pieces = where.within(op.offset, end) if where is not None else iter([(op.offset, end)])
        for first, last in pieces:
            if op.kind is LowerKind.WRITE:
                file.write(first, self._data(op, first, last))
            else:
                file.zero(first, min(last, file.size))

    def _digest_again(self, where: RangeSet) -> None:
        """Bring the digest in line with what the file holds in a range."""
        for start, end in where.aligned(GRAIN):
            for first, last, is_data in self._state.extents(start, end):
                if not is_data:
                    for number in self._with_digest(first // GRAIN, last // GRAIN):
                        self._digest ^= self._digests.pop(number)
                    continue
                for number, data in self._state.grains(first, last):
                    new = 0
                    if not is_zero(data):
                        key = blake3(number.to_bytes(8, "big") + data).digest(16)
                        new = int.from_bytes(key, "big")
                    self._digest ^= self._digests.pop(number, 0) ^ new
                    if new:
                        self._digests[number] = new

    def _with_digest(self, first: int, last: int) -> list[int]:
        """Return the grains from ``first`` up to ``last`` that have a digest. A hole may be far
        larger than all that was written."""
        if last - first < len(self._digests):
            return [number for number in range(first, last) if number in self._digests]
        return [number for number in self._digests if first <= number < last]


def _range(op: LowerOp, end: int) -> tuple[int, int]:
    """Return the bytes that an op may change in a file of ``end`` bytes."""
    return (op.length, max(end, op.length)) if op.kind is LowerKind.TRUNCATE else (
        op.offset, op.end)  # fmt: skip


def _size_after(size: int, op: LowerOp, torn: int | None) -> int:
    """Return the size of a file of ``size`` bytes after a lower op."""
    if op.error:
        return size
    if op.kind is LowerKind.TRUNCATE:
        return op.length
    if op.kind in (LowerKind.WRITE, LowerKind.ZERO):
        return max(size, op.end if torn is None else op.offset + torn)
    return size


class _File:
    """A file that is read and written, and its size in bytes."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.size = os.fstat(self.fd).st_size

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def resize(self, size: int) -> None:
        if size != self.size:
            os.ftruncate(self.fd, size)
            self.size = size

    def write(self, offset: int, data: bytes) -> None:
        pwrite_all(self.fd, data, offset)

    def zero(self, start: int, end: int) -> None:
        """Zero a range that lies in the file."""
        if start < end:
            sparse.punch(self.fd, start, end - start)

    def copy_to(self, other: "_File", start: int, end: int) -> None:
        """Copy a range; what lies behind the end reads as zeroes."""
        for first, last, is_data in sparse.extents(self.fd, start, min(end, self.size)):
            if not is_data:
                other.zero(first, last)
                continue
            for at in range(first, last, PIECE):
                other.write(at, os.pread(self.fd, min(PIECE, last - at), at))
        other.zero(max(start, self.size), min(end, other.size))

    def extents(self, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """Yield a range as pieces of whole grains, each with whether it may hold data. What lies
        behind the end is a hole. ``start`` and ``end`` are multiples of GRAIN."""
        at = start
        for first, last, is_data in sparse.extents(self.fd, start, min(end, self.size)):
            if is_data:
                first, last = max(at, first // GRAIN * GRAIN), -(-last // GRAIN) * GRAIN
                if at < first:
                    yield at, first, False
                if first < last:
                    yield first, last, True
                at = max(at, last)
        if at < end:
            yield at, end, False

    def grains(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield the grains of a range, each with its number. Behind the end there are zeroes."""
        for at in range(start, end, PIECE):
            data = os.pread(self.fd, min(PIECE, end - at), at)
            for inner in range(0, min(PIECE, end - at), GRAIN):
                yield (at + inner) // GRAIN, data[inner : inner + GRAIN].ljust(GRAIN, b"\0")


def lower_ops(events: Sequence[object]) -> list[LowerOp]:
    """Return the lower ops among a run's events."""
    return [event for event in events if isinstance(event, LowerOp)]
