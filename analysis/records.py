"""A trace's op records as numpy sees them: checked, by seq, a block of the file at a time.

Records are fixed-width, so a block of the file is a table already: nothing here loops over ops. The file
has its ops as they completed; what was in flight together stands close together, so putting them in the
order of seq takes memory for a block or two. Of the whole trace only a few numbers per block are kept.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tracer.errors import TraceError
from tracer.op import KIND_BY_NUMBER, NO_TIME, Kind
from tracer.trace import KNOWN_FLAGS, MAX_LENGTH, RECORD_SIZE, Tag, Trace

BLOCK = 1 << 15
"""Records that are read at a time: 3.5 MB. More take longer, each: the kernel hands out large pieces of
memory anew every time, page by page."""

_FIELDS = {
    "seq": ">u8",
    "kind": "u1",
    "flags": ">u2",
    "offset": ">u8",
    "length": ">u8",
    "submitted": ">u8",
    "completed": ">u8",
    "reference_ns": ">u8",
    "test_ns": ">u8",
    "reference_status": ">u2",
    "test_status": ">u2",
    "connection": ">u4",
    "payload": ">u8",
    "digest": "V16",
}
_PREFIXES = {1: b"\xcc", 2: b"\xcd", 4: b"\xce", 8: b"\xcf", 16: b"\xc4\x10"}
"""What msgpack puts before a field, by its size: uint 8 to 64, and bin 8 with its length."""

_ZERO_BITS = {
    "seq": 1 << 63,
    "flags": 0xFFFF & ~KNOWN_FLAGS,
    "offset": 1 << 63,
    "length": ~MAX_LENGTH["other"] & (1 << 64) - 1,
    "submitted": 1 << 63,
    "completed": 1 << 63,
    "reference_ns": 1 << 63,
    "test_ns": 1 << 63,
}
"""Bits that are clear in a sound op, so that its numbers fit int64; but see NO_TIME."""

Ops = npt.NDArray[np.void]
"""Op records, of OP_DTYPE."""

Array = npt.NDArray[Any]


def _lay_out() -> tuple[np.dtype[np.void], npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """The dtype of an op's record; the record's bytes where all ops have them alike; and which bits
    those are. The latter two as 32-bit words: 27 of them make a record."""
    offsets = [1]
    alike, mask = bytearray(RECORD_SIZE), bytearray(RECORD_SIZE)
    alike[:2], mask[:2] = bytes([0x90 + 1 + len(_FIELDS), Tag.OP]), b"\xff\xff"
    at = 2
    for name, code in _FIELDS.items():
        size = np.dtype(code).itemsize
        prefix = _PREFIXES[size]
        alike[at : at + len(prefix)], mask[at : at + len(prefix)] = prefix, b"\xff" * len(prefix)
        at += len(prefix)
        offsets.append(at)
        mask[at : at + size] = _ZERO_BITS.get(name, 0).to_bytes(size, "big")
        at += size
    dtype = np.dtype(
        {
            "names": ["tag", *_FIELDS],
            "formats": ["u1", *_FIELDS.values()],
            "offsets": offsets,
            "itemsize": RECORD_SIZE,
        }
    )
    return dtype, np.frombuffer(bytes(alike), np.uint32), np.frombuffer(bytes(mask), np.uint32)


OP_DTYPE, _ALIKE, _MASK = _lay_out()
"""An op's record as numpy sees it: the twin of ``tracer.trace._OP``."""


def _place(field: str) -> int:
    """The byte of a record at which a field begins."""
    assert OP_DTYPE.fields is not None
    return OP_DTYPE.fields[field][1]


_COMPLETED_TOP = np.zeros(RECORD_SIZE, np.uint8)
_COMPLETED_TOP[_place("completed")] = 0x80
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

_NATIVE = {
    name: np.dtype(code).newbyteorder("=") if code != ">u8" else np.dtype(np.int64)
    for name, code in _FIELDS.items()
}
"""What fields are turned into: 63 bits fit a signed integer, which polars and people prefer."""

_STEP = 1 << 13
"""Records of which one field after the other is taken: 885 kB, which a CPU's second cache keeps."""

_TILE = 128
"""Records that are looked at as one long row: 14 kB, of which two fit a CPU's first cache."""

_INDEX = np.dtype(
    [
        (name, np.int64)
        for name in ("ops", "guests", "seq", "last_seq", "begun", "last_begun", "ended", "last_ended")
    ]
)
"""What is kept of each block: how many ops it has, how many of those are the guests' own; the lowest and
the highest seq; when the guests' ops were submitted and done, first and last."""

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

    @property
    def count(self) -> int:
        """How many ops there are. Raises TraceError."""
        return int(self._index["ops"].sum())

    @property
    def last(self) -> int:
        """The highest seq; -1 where there are no ops. Raises TraceError."""
        return int(self._index["last_seq"].max(initial=-1))

    def by_seq(self) -> Iterator[Ops]:
        """All ops in the order of seq, in batches; at least one. Raises TraceError."""
        lowest = np.minimum.accumulate(self._index["seq"][::-1])[::-1]
        kept = np.empty(0, OP_DTYPE)
        for block in range(len(self._index)):
            ops = self._ops(block)
            if len(kept):
                ops = np.concatenate([_opaque(kept), _opaque(ops)]).view(OP_DTYPE)
            seq = fields(ops, ["seq"])["seq"]
            if (seq[1:] < seq[:-1]).any():
                order = np.argsort(seq, kind="stable")
                ops, seq = _opaque(ops)[order].view(OP_DTYPE), seq[order]
            if block + 1 < len(self._index):
                # what a later block may have something before must wait for that one
                ready = int(np.searchsorted(seq, lowest[block + 1]))
                kept, ops = ops[ready:], ops[:ready]
            yield ops
            self.watch(self._size(block))
        if not len(self._index):
            yield kept

    def find(self, seq: int) -> Ops:
        """The ops of that number: one, or none. Raises TraceError."""
        first, last = self._index["seq"], self._index["last_seq"]
        for block in np.flatnonzero((first <= seq) & (seq <= last)):
            ops = self._ops(int(block))
            places = np.flatnonzero(fields(ops, ["seq"])["seq"] == seq)[:1]
            if len(places):
                return ops[places[0] : places[0] + 1]
        return np.empty(0, OP_DTYPE)

    def in_flight(self, submitted: Array, kind: Array) -> Array:
        """For each of some ops, the other ops that were in flight when it was submitted.

        B runs after A if A completed before B was submitted; all else is together. So those in flight
        are those submitted by then less those done before.
        """
        together = self._earlier("begun", submitted, "right") - self._earlier("ended", submitted, "left")
        # the start image's pieces were never on their way
        return np.array((together - 1) * (kind != Kind.START))

    def _earlier(self, what: str, moments: Array, side: Literal["left", "right"]) -> Array:
        """How many of the guests' ops had begun or ended before each moment, or (right) at it too."""
        low, high = (moments.min(), moments.max()) if len(moments) else (0, 0)
        first, last = self._index[what], self._index[f"last_{what}"]
        count = np.full(len(moments), self._index["guests"][last < low].sum())
        for block in np.flatnonzero((last >= low) & (first <= high)):
            count += np.searchsorted(self._moments(int(block))[what], moments, side)
        return count

    def _find_moments(self, block: int) -> dict[str, Array]:
        """When a block's guests' ops were submitted and done, each in order."""
        begun, ended = _moments(fields(self._ops(block), ["kind", "submitted", "completed"]))
        return {"begun": _sorted(begun), "ended": _sorted(ended)}

    @cached_property
    def _index(self) -> npt.NDArray[np.void]:
        """One entry of _INDEX per block; every record is checked on the way."""
        blocks = range(-(-self._trace.count // self._block))
        found = []
        with ThreadPoolExecutor() as pool:
            for block, entry in enumerate(pool.map(self._examine, blocks)):
                found.append(entry)
                self.watch(self._size(block))
        return np.array(found, _INDEX)

    def _examine(self, block: int) -> tuple[int, ...]:
        records = self._read(block)
        found = fields(records, ["kind", "seq", "offset", "length", "submitted", "completed"])
        self._check(block, records, found)
        is_op = records["tag"] == Tag.OP
        if not is_op.all():
            found = {name: values[is_op] for name, values in found.items()}
        seq = found["seq"]
        if not len(seq):
            return _NOTHING
        begun, ended = _moments(found)
        times = (begun.min(), begun.max(), ended.min(), ended.max()) if len(begun) else _NOTHING[4:]
        return len(seq), len(begun), seq.min(), seq.max(), *times

    def _check(self, block: int, records: Ops, found: dict[str, Array]) -> None:
        """Refuse what ``tracer.trace`` refuses, and numbers of more than 63 bits."""
        kind, length = found["kind"], found["length"]
        sound = length <= np.take(_LONGEST, kind)
        sound &= length >= np.take(_SHORTEST, kind)
        sound &= found["offset"] <= self._trace.header.size - length
        if not _plain(records):
            strange = (records.view((np.uint32, len(_ALIKE))) ^ _ALIKE) & _MASK
            rows = np.flatnonzero(strange.any(axis=1))
            sound[rows] = _excused(_opaque(records)[rows].view(OP_DTYPE), strange[rows], sound[rows])
        if not sound.all():
            first = block * self._block + int(np.argmin(sound))
            byte = self._trace.records_at + first * RECORD_SIZE
            raise TraceError(f"{self._trace.path}: no record where one should be, at byte {byte}")

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
        is_op = records["tag"] == Tag.OP
        return records if is_op.all() else _opaque(records)[is_op].view(OP_DTYPE)


def fields(ops: Ops, names: Iterable[str]) -> dict[str, Array]:
    """Fields of records as arrays of the machine's own numbers; a time that is NO_TIME is -1."""
    found = {name: np.empty(len(ops), _NATIVE[name]) for name in names}
    for at in range(0, len(ops), _STEP):
        part = ops[at : at + _STEP]
        for name, values in found.items():
            values[at : at + _STEP] = part[name]
    return found


def _plain(records: Ops) -> bool:
    """Whether all bits that ops have alike are so in all of these records; perhaps False where they are.

    Each bit is alike where it is the same in the "and" and in the "or" of all. numpy is fast at that for
    long rows, so many records make one.
    """
    if not len(records) or len(records) % _TILE:
        return False
    words = records.view(np.uint32).reshape(-1, _TILE * len(_ALIKE))
    found = (np.bitwise_and.reduce(words), np.bitwise_or.reduce(words))
    return not any(((one.reshape(_TILE, -1) ^ _ALIKE) & _MASK).any() for one in found)


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


def _sorted(values: Array) -> Array:
    """Nearly always they are already."""
    return np.sort(values) if (values[1:] < values[:-1]).any() else values


def _opaque(ops: Ops) -> npt.NDArray[np.void]:
    """The same records without fields: numpy copies such seven times as fast."""
    return ops.view(f"V{RECORD_SIZE}")
