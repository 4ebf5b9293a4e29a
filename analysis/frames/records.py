"""A trace's op records as numpy sees them: checked, by seq, a block of the file at a time.

Records are fixed-width, so a block of the file is a table already: nothing here loops over ops. The file
has its ops as they completed; what was in flight together stands close together, so putting them in the
order of seq takes memory for a block or two. Of the whole trace only a few numbers per block are kept.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from os import cpu_count
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.frames.layout import ALIKE, MASK, OP_DTYPE, Array, Batch, Ops, opaque, place
from tracer.errors import TraceError
from tracer.op import KIND_BY_NUMBER, NO_TIME, Kind
from tracer.trace.file import Trace
from tracer.trace.records import MAX_LENGTH, RECORD_SIZE, Tag

BLOCK = 1 << 16
"""Records that are read at a time: 7 MB. With fewer, what a batch costs besides its ops counts: over a
hundred calls, each of which may wait for the interpreter's lock. More take memory and gain little."""

_COMPLETED_TOP = np.zeros(RECORD_SIZE, np.uint8)
_COMPLETED_TOP[place("completed")] = 0x80
_COMPLETED_TOP = _COMPLETED_TOP.view(np.uint32)
"""The one bit that an op has and others have not when it never completed."""

_MAX_INT = (1 << 63) - 1

_LONGEST = np.full(256, -1, np.int64)
_LONGEST[list(KIND_BY_NUMBER)] = MAX_LENGTH["other"]
_LONGEST[[Kind.READ, Kind.WRITE, Kind.START]] = MAX_LENGTH["data"]
_SHORTEST = np.ones(256, np.int64)
_SHORTEST[Kind.FLUSH] = 0

_HEADS = np.zeros(256, np.uint8)
_HEADS[[Tag.MARK, Tag.MISMATCH, Tag.END]] = 0x94, 0x9B, 0x95
"""The first byte of a record that is no op, by tag: an array of so many."""

_TILE = 128
"""Records that are looked at as one long row: 14 kB, of which two fit a CPU's first cache."""

_INDEX = np.dtype(
    [
        (name, np.int64)
        for name in (
            "ops",
            "guests",
            "seq",
            "last_seq",
            "begun",
            "last_begun",
            "ended",
            "last_ended",
        )
    ]
)
"""What is kept of each block: how many ops it has, how many of those are the guests' own; the lowest and
the highest seq; when the guests' ops were submitted and done, first and last."""

_NO_SEQ = 1 << 63
"""Higher than any."""

_NOTHING = (0, 0, _MAX_INT, -1, _MAX_INT, -1, _MAX_INT, -1)


class OpRecords:
    """The op records of a trace. Only whole records count."""

    def __init__(self, trace: Trace) -> None:
        self.watch: Callable[[int], None] = lambda more: None
        """Told of how many more records were read, each time that the file is."""
        self._trace = trace
        self._block = BLOCK
        # a block is wanted for its ops, and again for what was in flight with the next one's
        self._ops = lru_cache(maxsize=8)(self._find_ops)
        self._moments = lru_cache(maxsize=16)(self._find_moments)
        self._one_at_a_time = Lock()

    @property
    def count(self) -> int:
        """How many ops there are. Raises TraceError."""
        return int(self._index["ops"].sum())

    @property
    def last(self) -> int:
        """The highest seq; -1 where there are no ops. Raises TraceError."""
        return int(self._index["last_seq"].max(initial=-1))

    def by_seq(self) -> Iterator[Batch]:
        """All ops in the order of seq, in batches; at least one. Raises TraceError."""
        lowest = np.minimum.accumulate(self._index["seq"][::-1])[::-1].tolist()
        waiting: list[tuple[Ops, Array]] = []
        for block, bound in enumerate([*lowest, _NO_SEQ][1:]):
            if self._index["ops"][block]:
                ops = self._ops(block)
                waiting.append((ops, Batch((ops,)).fields(["seq"])["seq"]))
            # what a later block may have something before must wait for that one
            ready, waiting = _split(waiting, bound)
            yield ready
            self.watch(self._size(block))
        if not len(self._index):
            yield Batch(())

    def find(self, seq: int) -> Batch:
        """The ops of that number: one, or none. Raises TraceError."""
        first, last = self._index["seq"], self._index["last_seq"]
        for block in np.flatnonzero((first <= seq) & (seq <= last)):
            batch = Batch((self._ops(int(block)),))
            places = np.flatnonzero(batch.fields(["seq"])["seq"] == seq)[:1]
            if len(places):
                return batch.take(places)
        return Batch(())

    def in_flight(self, submitted: Array, kind: Array) -> Array:
        """For each of some ops, the other ops that were in flight when it was submitted.

        B runs after A if A completed before B was submitted; all else is together. So those in flight
        are those submitted by then less those done before.
        """
        # the start image's pieces were never on their way
        guest = kind != Kind.START
        moments = submitted[guest]
        if not len(moments):
            return np.zeros(len(kind), np.int64)
        low, high = moments.min(), moments.max()
        begun_before, begun = self._between("begun", low, high)
        ended_before, ended = self._between("ended", low, high)
        if len(begun) == len(moments) and _is_sorted(moments):  # as many: these are the ones
            ends = np.append(np.flatnonzero(moments[1:] != moments[:-1]) + 1, len(moments))
            begun_by = np.repeat(ends, np.diff(ends, prepend=0))
        else:
            begun_by = np.searchsorted(_sorted(begun), moments, "right")
        ended_by = np.searchsorted(_sorted(ended), moments, "left")
        found = np.zeros(len(kind), np.int64)
        found[guest] = begun_by - ended_by + (begun_before - ended_before - 1)
        return found

    def _between(self, what: str, low: int, high: int) -> tuple[int, Array]:
        """How many of the guests' ops had begun, or ended, before ``low``; when others did, up to
        ``high``."""
        first, last = self._index[what], self._index[f"last_{what}"]
        before = int(self._index["guests"][last < low].sum())
        found = []
        for block in np.flatnonzero((last >= low) & (first <= high)):
            with self._one_at_a_time:  # else two threads would do the same
                moments = self._moments(int(block))[what]
            start, stop = np.searchsorted(moments, low), np.searchsorted(moments, high, "right")
            before += int(start)
            found.append(moments[start:stop])
        return before, np.concatenate(found) if found else np.empty(0, np.int64)

    def _find_moments(self, block: int) -> dict[str, Array]:
        """When a block's guests' ops were submitted, and when they were done, in the order of time."""
        begun, ended = _moments(
            Batch((self._ops(block),)).fields(["kind", "submitted", "completed"])
        )
        return {"begun": _sorted(begun), "ended": _sorted(ended)}

    @cached_property
    def _index(self) -> npt.NDArray[np.void]:
        """One entry of _INDEX per block; every record is checked on the way."""
        blocks = range(-(-self._trace.count // self._block))
        found = []
        with ThreadPoolExecutor(cpu_count()) as pool:
            for block, entry in enumerate(pool.map(self._examine, blocks)):
                found.append(entry)
                self.watch(self._size(block))
        return np.array(found, _INDEX)

    def _examine(self, block: int) -> tuple[int, ...]:
        records = self._read(block)
        found = Batch((records,)).fields(
            ["kind", "seq", "offset", "length", "submitted", "completed"]
        )
        if not self._check(block, records, found):
            is_op = records["tag"] == Tag.OP
            found = {name: values[is_op] for name, values in found.items()}
        seq = found["seq"]
        if not len(seq):
            return _NOTHING
        begun, ended = _moments(found)
        times = (begun.min(), begun.max(), ended.min(), ended.max()) if len(begun) else _NOTHING[4:]
        return len(seq), len(begun), seq.min(), seq.max(), *times

    def _check(self, block: int, records: Ops, found: dict[str, Array]) -> bool:
        """Refuse what ``tracer.trace`` refuses, and numbers of more than 63 bits. Returns whether all
        are ops; perhaps False where they are."""
        kind, length = found["kind"], found["length"]
        sound = length <= np.take(_LONGEST, kind)
        sound &= length >= np.take(_SHORTEST, kind)
        sound &= found["offset"] <= self._trace.header.size - length
        all_ops = _all_ops(records)
        if not all_ops:
            strange = (records.view((np.uint32, len(ALIKE))) ^ ALIKE) & MASK
            rows = np.flatnonzero(strange.any(axis=1))
            sound[rows] = _excused(opaque(records)[rows].view(OP_DTYPE), strange[rows], sound[rows])
        if not sound.all():
            first = block * self._block + int(np.argmin(sound))
            byte = self._trace.records_at + first * RECORD_SIZE
            raise TraceError(f"{self._trace.path}: no record where one should be, at byte {byte}")
        return all_ops

    def _size(self, block: int) -> int:
        """Records in a block."""
        return min(self._block, self._trace.count - block * self._block)

    def _read(self, block: int) -> Ops:
        """A block's records, of any kind."""
        data = self._trace.read(block * self._block, self._block)
        if len(data) != self._size(block) * RECORD_SIZE:
            raise TraceError(f"{self._trace.path} was cut short while it was read")
        return np.frombuffer(data, OP_DTYPE)

    def _find_ops(self, block: int) -> Ops:
        records = self._read(block)
        if self._index["ops"][block] != len(records):
            records = opaque(records)[records["tag"] == Tag.OP].view(OP_DTYPE)
        return records


def _split(waiting: list[tuple[Ops, Array]], bound: int) -> tuple[Batch, list[tuple[Ops, Array]]]:
    """Part records, each with its seq: those before a seq, in order; and the others."""
    touched, later = [], []
    for ops, seq in waiting:
        after = seq >= bound
        if after.all():
            later.append((ops, seq))
            continue
        touched.append((ops, seq))
        if after.any():
            later.append((opaque(ops)[after].view(OP_DTYPE), seq[after]))
    if not touched:
        return Batch(()), later
    records = tuple(ops for ops, _ in touched)
    seq = np.concatenate([seq for _, seq in touched])
    if seq[-1] < bound and _is_sorted(seq):
        return Batch(records), later
    return Batch(records, _order_of(seq)[: np.count_nonzero(seq < bound)]), later


def _order_of(seq: Array) -> Array:
    """The places of numbers by their size; equal ones stay as they are."""
    first, last = int(seq.min()), int(seq.max())
    if last - first < 2 * len(seq):  # few are missing between them: each tells its place
        order = np.full(last - first + 1, -1)
        order[seq - first] = np.arange(len(seq))
        if len(order) > len(seq):
            order = order[order >= 0]
        if len(order) == len(seq) and order.min() >= 0:
            return order
    return np.argsort(seq, kind="stable")


def _all_ops(records: Ops) -> bool:
    """Whether all bits that ops have alike are so in all of these records; perhaps False where they are.

    Each bit is alike where it is the same in the "and" and in the "or" of all. numpy is fast at that for
    long rows, so many records make one.
    """
    if not len(records) or len(records) % _TILE:
        return False
    words = records.view(np.uint32).reshape(-1, _TILE * len(ALIKE))
    found = (np.bitwise_and.reduce(words), np.bitwise_or.reduce(words))
    return not any(((one.reshape(_TILE, -1) ^ ALIKE) & MASK).any() for one in found)


def _excused(records: Ops, strange: npt.NDArray[np.uint32], sound: Any) -> Any:
    """Which of the records that do not look as an op must are sound all the same: other kinds of record
    (the rest of which is checked when they are asked for), and ops that never completed."""
    head = records.view((np.uint8, RECORD_SIZE))[:, 0]
    other = (_HEADS[records["tag"]] == head) & (head != 0)
    never = (records["completed"] == NO_TIME) & ((strange & ~_COMPLETED_TOP) == 0).all(axis=1)
    return other | (never & sound)


def _moments(found: dict[str, Array]) -> tuple[Array, Array]:
    """When the guests' ops were submitted and done; one that never was, at the end of time."""
    submitted, completed = found["submitted"], found["completed"]
    ended = np.maximum(completed, submitted)
    if completed.min(initial=0) < 0:
        ended[completed < 0] = _MAX_INT
    guest = found["kind"] != Kind.START
    return (submitted, ended) if guest.all() else (submitted[guest], ended[guest])


def _is_sorted(values: Array) -> bool:
    return not (values[1:] < values[:-1]).any()


def _sorted(values: Array) -> Array:
    """Nearly always they are already."""
    return values if _is_sorted(values) else np.sort(values)
