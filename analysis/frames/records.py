"""A trace's op records as numpy arrays: checked, sorted by seq, a block of the file at a time.

Records have a fixed width, so a block of the file already is a table, and no Python code loops over
ops. The file has ops in the order of completion. Ops that were in flight together are close to each
other there, so sorting by seq needs memory for a block or two. For the whole trace only a few
numbers per block are kept.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, lru_cache
from os import cpu_count
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.frames.layout import ALIKE, MASK, OP_DTYPE, Array, Batch, Ops, opaque, place
from analysis.frames.runs import NOTHING, Block, Notes, Runs, notes_of, runs_of
from tracer.errors import TraceError
from tracer.op import FLAGS_OF, KIND_BY_NUMBER, NO_TIME, Kind
from tracer.trace.file import Trace
from tracer.trace.records import MAX_INT, MAX_LENGTH, RECORD_SIZE, End, Tag

BLOCK = 1 << 16
"""Records that are read at a time: 7 MB. Smaller blocks are slower, since each costs over a hundred
calls, and each call may wait for the interpreter's lock. Larger blocks take memory and gain
little."""

_COMPLETED_TOP = np.zeros(RECORD_SIZE, np.uint8)
_COMPLETED_TOP[place("completed")] = 0x80
_COMPLETED_TOP = _COMPLETED_TOP.view(np.uint32)
"""The top bit of ``completed``: only NO_TIME has it."""

_LONGEST = np.full(256, -1, np.int64)
_LONGEST[list(KIND_BY_NUMBER)] = MAX_LENGTH["other"]
_LONGEST[[Kind.READ, Kind.WRITE, Kind.START]] = MAX_LENGTH["data"]
_LONGEST[Kind.FLUSH] = 0
_SHORTEST = np.ones(256, np.int64)
_SHORTEST[Kind.FLUSH] = 0
_FLAGS = np.zeros(256, np.uint16)
_FLAGS[list(FLAGS_OF)] = list(FLAGS_OF.values())

_TILE = 128
"""Records that are checked together as one row: 14 kB, of which two fit a CPU's first cache."""

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
"""What is kept about each block: the number of ops, and of guest ops among them; the lowest and the
highest seq; the first and the last submission of a guest op; the first and the last completion."""

_NO_SEQ = 1 << 63
"""Higher than any seq."""

_NOTHING = (0, 0, MAX_INT, -1, MAX_INT, -1, MAX_INT, -1)
"""The index entry of a block without ops."""


class _NotValid(Exception):
    """The trace is not valid. The reader of records says why: see ``OpRecords._error``."""


class OpRecords:
    """The op records of a trace. Bytes after the last whole record are ignored."""

    def __init__(self, trace: Trace) -> None:
        self.watch: Callable[[int], None] = lambda more: None
        """Gets the number of records just read, whenever the file is read."""
        self._trace = trace
        self.timed = trace.header.driver.get("completion_times") is not False
        """Whether completions have times of their own. An import may have made them up."""
        self._block = BLOCK
        # a block is used for its ops, and again for the ops in flight with the next block's ops
        self._ops = lru_cache(maxsize=8)(self._find_ops)
        self._moments = lru_cache(maxsize=16)(self._find_moments)
        self._one_at_a_time = Lock()

    @property
    def count(self) -> int:
        """The number of ops. Raises TraceError."""
        return int(self._index["ops"].sum())

    @property
    def last(self) -> int:
        """The highest seq; -1 if there are no ops. Raises TraceError."""
        return int(self._index["last_seq"].max(initial=-1))

    def by_seq(self) -> Iterator[Batch]:
        """Yield all ops sorted by seq, as at least one batch. Raises TraceError."""
        lowest = np.minimum.accumulate(self._index["seq"][::-1])[::-1].tolist()
        waiting: list[tuple[Ops, Array]] = []
        for block, bound in enumerate([*lowest, _NO_SEQ][1:]):
            if self._index["ops"][block]:
                ops = self._ops(block)
                waiting.append((ops, Batch((ops,)).fields(["seq"])["seq"]))
            # ops from ``bound`` on must wait: a later block may have an op that comes before them
            ready, waiting = _split(waiting, bound)
            yield ready
            self.watch(self._size(block))
        if not len(self._index):
            yield Batch(())

    def find(self, seq: int) -> Batch:
        """Return the op with this seq as a batch, or an empty batch. Raises TraceError."""
        first, last = self._index["seq"], self._index["last_seq"]
        for block in np.flatnonzero((first <= seq) & (seq <= last)):
            batch = Batch((self._ops(int(block)),))
            places = np.flatnonzero(batch.fields(["seq"])["seq"] == seq)[:1]
            if len(places):
                return batch.take(places)
        return Batch(())

    def in_flight(self, submitted: Array, kind: Array) -> Array:
        """Return, for each of some ops, how many other ops were in flight when it was submitted.

        That is the number of ops submitted by then, minus the number completed before.
        """
        # pieces of the start image were never in flight
        guest = kind != Kind.START
        moments = submitted[guest]
        if not len(moments):
            return np.zeros(len(kind), np.int64)
        low, high = moments.min(), moments.max()
        begun_before, begun = self._between("begun", low, high)
        ended_before, ended = self._between("ended", low, high)
        if len(begun) == len(moments) and _is_sorted(moments):  # the same ops: no search needed
            ends = np.append(np.flatnonzero(moments[1:] != moments[:-1]) + 1, len(moments))
            begun_by = np.repeat(ends, np.diff(ends, prepend=0))
        else:
            begun_by = np.searchsorted(_sorted(begun), moments, "right")
        ended_by = np.searchsorted(_sorted(ended), moments, "left")
        found = np.zeros(len(kind), np.int64)
        found[guest] = begun_by - ended_by + (begun_before - ended_before - 1)
        return found

    def _between(self, what: str, low: int, high: int) -> tuple[int, Array]:
        """Return how many guest ops had begun (or ended) before ``low``, and the sorted times from
        ``low`` to ``high`` at which others did."""
        first, last = self._index[what], self._index[f"last_{what}"]
        before = int(self._index["guests"][last < low].sum())
        found = []
        for block in np.flatnonzero((last >= low) & (first <= high)):
            with self._one_at_a_time:  # otherwise two threads would do the same work
                moments = self._moments(int(block))[what]
            start, stop = np.searchsorted(moments, low), np.searchsorted(moments, high, "right")
            before += int(start)
            found.append(moments[start:stop])
        return before, np.concatenate(found) if found else np.empty(0, np.int64)

    def _find_moments(self, block: int) -> dict[str, Array]:
        """Return when the guest ops of a block were submitted, and when they completed, sorted."""
        begun, ended = _moments(
            Batch((self._ops(block),)).fields(["kind", "submitted", "completed"])
        )
        return {"begun": _sorted(begun), "ended": _sorted(ended)}

    @cached_property
    def _index(self) -> npt.NDArray[np.void]:
        """One entry of _INDEX per block. Making it checks every record. Raises TraceError."""
        blocks = range(-(-self._trace.count // self._block))
        found, runs, completed = [], Runs(), 0
        try:
            with ThreadPoolExecutor(cpu_count()) as pool:
                for block, (entry, ops, first, last) in enumerate(pool.map(self._examine, blocks)):
                    if ops is None or first < completed or not runs.add(ops):
                        raise _NotValid
                    found.append(entry)
                    completed = max(completed, last)
                    self.watch(self._size(block))
        except _NotValid:
            raise self._error() from None
        return np.array(found, _INDEX)

    def _examine(self, block: int) -> tuple[tuple[int, ...], Block | None, int, int]:
        """Check the records of a block. Return its index entry, the runs of its seqs (None if its
        records are not valid together), and the completion times of its first and last op. Raises
        _NotValid, and TraceError if the file was cut short."""
        records = self._read(block)
        found = Batch((records,)).fields(
            ["kind", "flags", "seq", "offset", "length", "submitted", "completed"]
        )
        notes: Notes | None = NOTHING
        if not self._check(block, records, found):
            notes = notes_of(records["tag"], found["seq"])
            is_op = records["tag"] == Tag.OP
            found = {name: values[is_op] for name, values in found.items()}
        seq = found["seq"]
        if not len(seq):
            return _NOTHING, _noted(runs_of(seq, seq), notes), MAX_INT, 0
        begun, ended = _moments(found)
        times = (begun.min(), begun.max(), ended.min(), ended.max()) if len(begun) else _NOTHING[4:]
        done = _done(found["completed"])
        ops = runs_of(seq, found["submitted"]) if _is_sorted(done) else None
        entry = len(seq), len(begun), seq.min(), seq.max(), *times
        return entry, _noted(ops, notes), int(done[0]), int(done[-1])

    def _check(self, block: int, records: Ops, found: dict[str, Array]) -> bool:
        """Check the records of a block by themselves. Return True if all are ops; False may be
        wrong. Raises _NotValid."""
        kind, length = found["kind"], found["length"]
        sound = length <= np.take(_LONGEST, kind)
        sound &= length >= np.take(_SHORTEST, kind)
        sound &= found["offset"] <= self._trace.header.size - length
        sound &= (found["offset"] == 0) | (kind != Kind.FLUSH)
        sound &= (found["flags"] & ~np.take(_FLAGS, kind)) == 0
        sound &= (found["completed"] >= found["submitted"]) | (found["completed"] == -1)
        all_ops = _all_ops(records)
        if not all_ops:
            strange = (records.view((np.uint32, len(ALIKE))) ^ ALIKE) & MASK
            rows = np.flatnonzero(strange.any(axis=1))
            sound[rows] = _excused(opaque(records)[rows].view(OP_DTYPE), strange[rows], sound[rows])
            self._check_others(block, records)
        if not sound.all():
            raise _NotValid
        return all_ops

    def _check_others(self, block: int, records: Ops) -> None:
        """Check the records of a block that are not ops. Raises _NotValid."""
        packed = opaque(records)
        for index in np.flatnonzero(records["tag"] != Tag.OP).tolist():
            number = block * self._block + index
            try:
                record = self._trace.unpack(number, packed[index].tobytes())
            except TraceError:
                raise _NotValid from None
            if isinstance(record, End) and number + 1 < self._trace.count:
                raise _NotValid

    def _error(self) -> TraceError:
        """Return the error that the reader of records has for this trace."""
        try:
            for _ in self._trace.records():
                pass
        except TraceError as error:
            return error
        return TraceError(f"{self._trace.path} changed while it was read")

    def _size(self, block: int) -> int:
        """Return the number of records in a block."""
        return min(self._block, self._trace.count - block * self._block)

    def _read(self, block: int) -> Ops:
        """Return the records of a block, of any kind. Raises TraceError."""
        data = self._trace.read(block * self._block, self._block)
        if len(data) != self._size(block) * RECORD_SIZE:
            raise TraceError(f"{self._trace.path} was cut short while it was read")
        return np.frombuffer(data, OP_DTYPE)

    def _find_ops(self, block: int) -> Ops:
        """Return the op records of a block. Raises TraceError."""
        records = self._read(block)
        if self._index["ops"][block] != len(records):
            records = opaque(records)[records["tag"] == Tag.OP].view(OP_DTYPE)
        return records


def _noted(ops: Block | None, notes: Notes | None) -> Block | None:
    """Return the runs of a block with its notes. None: its records are not valid together."""
    return None if ops is None or notes is None else replace(ops, notes=notes)


def _split(waiting: list[tuple[Ops, Array]], bound: int) -> tuple[Batch, list[tuple[Ops, Array]]]:
    """Split records, which come with their seqs: return a sorted batch of the records with a seq
    below ``bound``, and the other records."""
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
    """Return the indexes that sort the numbers. Equal numbers keep their order."""
    first, last = int(seq.min()), int(seq.max())
    if last - first < 2 * len(seq):  # few gaps: each number gives its own place
        order = np.full(last - first + 1, -1)
        order[seq - first] = np.arange(len(seq))
        if len(order) > len(seq):
            order = order[order >= 0]
        if len(order) == len(seq) and order.min() >= 0:
            return order
    return np.argsort(seq, kind="stable")


def _all_ops(records: Ops) -> bool:
    """Return True if every record has the bits that all op records have; False may be wrong.

    A bit is right in every record if it is right in the "and" and in the "or" of the records. numpy
    is fast at that for long rows, so many records make a row.
    """
    if not len(records) or len(records) % _TILE:
        return False
    words = records.view(np.uint32).reshape(-1, _TILE * len(ALIKE))
    found = (np.bitwise_and.reduce(words), np.bitwise_or.reduce(words))
    return not any(((bits.reshape(_TILE, -1) ^ ALIKE) & MASK).any() for bits in found)


def _excused(records: Ops, strange: npt.NDArray[np.uint32], sound: Any) -> Any:
    """Return which of the records that lack the bits of a completed op may be sound: records of
    other kinds, which are checked one by one, and ops that never completed."""
    other = records["tag"] != Tag.OP
    never = (records["completed"] == NO_TIME) & ((strange & ~_COMPLETED_TOP) == 0).all(axis=1)
    return other | (never & sound)


def _moments(found: dict[str, Array]) -> tuple[Array, Array]:
    """Return when the guest ops were submitted, and when they completed: MAX_INT for never."""
    submitted, ended = found["submitted"], _done(found["completed"])
    guest = found["kind"] != Kind.START
    return (submitted, ended) if guest.all() else (submitted[guest], ended[guest])


def _done(completed: Array) -> Array:
    """Return when ops completed: MAX_INT for never."""
    return np.where(completed < 0, MAX_INT, completed) if (completed < 0).any() else completed


def _is_sorted(values: Array) -> bool:
    return not (values[1:] < values[:-1]).any()


def _sorted(values: Array) -> Array:
    """Sort the values, unless they are sorted, which is nearly always the case."""
    return values if _is_sorted(values) else np.sort(values)
