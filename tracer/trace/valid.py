"""What a valid trace is: the rules of docs/trace-format.md, "What is valid", in one place.

Rules about one record are in the functions that unpack it (tracer/trace/records.py); ``reason``
says which of them a record breaks. Rules about records together are in ``Order``. Arrays of
records have twins of both in analysis/frames; what these refuse is read again with this module,
which then says why.
"""

from bisect import bisect_right
from typing import Any

from tracer.op import CARRIES_DATA, FLAGS_OF, KIND_BY_NUMBER, NO_SEQ, NO_TIME, Fault, Kind, Op
from tracer.trace.records import (
    MAX_INT,
    MAX_LENGTH,
    RECORD_SIZE,
    UNPACK,
    End,
    Record,
    Restart,
    Settle,
    Tag,
)

MAX_MISSING = 1 << 20
"""The most ops below an op's seq that may have no record yet, because they are in flight. The
recorder has at most 256 in flight, and no device takes a million. The limit bounds the memory of
whoever sorts ops by seq."""


class Order:
    """The rules about records together. Feed it all records in the order of the file.

    Takes memory for the gaps between the seqs that have come, so for the ops in flight together.
    """

    def __init__(self) -> None:
        self._completed = 0
        self._ended = False
        self._count = 0
        self._restarted = 0
        # runs of seqs that have come, ascending: the first and the last seq of each, and when these
        # were submitted. A run that ends before seq 0 saves a special case
        self._starts, self._ends = [-1], [-1]
        self._first_times, self._last_times = [0], [0]

    def check(self, record: Record) -> str | None:
        """Note the next record. Return what is wrong with it, or None."""
        if self._ended:
            return "it comes after the end record"
        if isinstance(record, Op):
            return self._check_op(record)
        if isinstance(record, Settle) and not self._has(record.seq):
            return f"op #{record.seq}, which decided it, has no record before it"
        if isinstance(record, Restart):
            if self._ends[-1] >= record.seq:
                return f"the driver was restarted before op #{record.seq}, which is recorded before"
            self._restarted = max(self._restarted, record.seq)
        self._ended = isinstance(record, End)
        return None

    def _has(self, seq: int) -> bool:
        """Whether an op with that seq has come."""
        return seq <= self._ends[bisect_right(self._starts, seq) - 1]

    def _check_op(self, op: Op) -> str | None:
        if op.seq < self._restarted:
            return f"op #{op.seq} is recorded after the restart before op #{self._restarted}"
        if op.completed < self._completed:
            return f"op #{op.seq} completed before the op in the record before it"
        self._completed = op.completed
        seq, submitted = op.seq, op.submitted
        ends, last_times = self._ends, self._last_times
        at = len(ends) - 1
        if seq <= ends[at]:
            at = bisect_right(self._starts, seq) - 1
            if seq <= ends[at]:
                return f"op #{seq} has two records"
            if submitted > self._first_times[at + 1]:
                return f"op #{seq} was submitted after op #{self._starts[at + 1]}"
        if submitted < last_times[at]:
            return f"op #{seq} was submitted before op #{ends[at]}"
        self._count += 1
        self._add(at, seq, submitted)
        if ends[-1] >= self._count + MAX_MISSING:
            return f"more than {MAX_MISSING:,} ops before op #{ends[-1]} have no record"
        return None

    def _add(self, at: int, seq: int, submitted: int) -> None:
        """Add a seq after run ``at`` and before the next."""
        starts, ends = self._starts, self._ends
        follows = ends[at] == seq - 1
        if at + 1 < len(starts) and starts[at + 1] == seq + 1:
            if follows:  # it joins the two runs
                ends[at], self._last_times[at] = ends[at + 1], self._last_times[at + 1]
                for numbers in (starts, ends, self._first_times, self._last_times):
                    del numbers[at + 1]
            else:
                starts[at + 1], self._first_times[at + 1] = seq, submitted
        elif follows:
            ends[at], self._last_times[at] = seq, submitted
        else:
            for numbers, number in (
                (starts, seq), (ends, seq),
                (self._first_times, submitted), (self._last_times, submitted),
            ):  # fmt: skip
                numbers.insert(at + 1, number)


def reason(data: Any, at: int, size: int) -> str:
    """Return why the bytes from ``at`` on are no valid record for a disk of ``size`` bytes."""
    record = bytes(data[at : at + RECORD_SIZE])
    if record[1] not in UNPACK:
        return f"there is no kind of record with the number {record[1]}"
    tag = Tag(record[1])
    fields = _numbers(record, _LAYOUTS[tag])
    if fields is None:
        return f"it is not laid out as {_NAMES[tag]}"
    what = f"op #{fields['seq']}" if tag is Tag.OP else _NAMES[tag]
    for name, number in fields.items():
        never = name == "completed" and number == NO_TIME
        if number > MAX_INT and name in _SHORT and not never:
            return f"{what} has {number} as {name}, which is more than 63 bits"
    if tag in (Tag.MARK, Tag.END, Tag.RESTART):
        return f"{what} has a text that is not UTF-8"
    wrong = _WRONG[tag](fields)
    return f"{what} {wrong or _beyond(fields, size)}"


_NAMES = {
    Tag.OP: "an op", Tag.MARK: "a mark", Tag.MISMATCH: "a mismatch", Tag.END: "an end record",
    Tag.SETTLE: "a settle", Tag.RESTART: "a restart",
}  # fmt: skip

_U8, _U16, _U32, _U64 = (b"\xcc", 1), (b"\xcd", 2), (b"\xce", 4), (b"\xcf", 8)
_DIGEST = b"\xc4\x10", 16

_LAYOUTS = {
    Tag.OP: {
        "seq": _U64, "kind": _U8, "flags": _U16, "offset": _U64, "length": _U64,
        "submitted": _U64, "completed": _U64, "reference_ns": _U64, "test_ns": _U64,
        "reference_status": _U16, "test_status": _U16, "connection": _U32, "payload": _U64,
        "digest": _DIGEST,
    },
    Tag.MARK: {"seq": _U64, "time": _U64, "name": (b"\xd9\x56", 86)},
    Tag.MISMATCH: {
        "seq": _U64, "fault": _U8, "offset": _U64, "length": _U64, "expected_status": _U16,
        "actual_status": _U16, "time": _U64, "payload": _U64, "digest": _DIGEST,
        "padding": (b"\xc4\x21", 33),
    },
    Tag.SETTLE: {
        "seq": _U64, "offset": _U64, "length": _U64, "winner": _U64, "time": _U64,
        "digest": _DIGEST, "padding": (b"\xc4\x29", 41),
    },
    Tag.RESTART: {"seq": _U64, "time": _U64, "why": (b"\xd9\x56", 86)},
    Tag.END: {"ops": _U64, "mismatches": _U64, "time": _U64, "verdict": (b"\xd9\x4d", 77)},
}  # fmt: skip
"""By kind, a record's fields: the msgpack bytes before each, and its own bytes."""

_SHORT = frozenset(
    {"seq", "submitted", "completed", "reference_ns", "test_ns", "time", "ops", "mismatches"}
)
"""Numbers of at most 63 bits."""


def _numbers(record: bytes, layout: dict[str, tuple[bytes, int]]) -> dict[str, int] | None:
    """Return a record's numbers by name; None if it is not laid out so."""
    if record[0] != 0x91 + len(layout):  # an array of the tag and these fields
        return None
    found, at = {}, 2
    for name, (prefix, size) in layout.items():
        if not record.startswith(prefix, at):
            return None
        at += len(prefix)
        if size <= 8:
            found[name] = int.from_bytes(record[at : at + size], "big")
        at += size
    return found


def _wrong_op(op: dict[str, int]) -> str:
    kind, length = op["kind"], op["length"]
    if kind not in KIND_BY_NUMBER:
        return f"is of no known kind ({kind})"
    strange = op["flags"] & ~FLAGS_OF[kind]
    if strange:
        return f"has flags that its kind cannot have ({strange:#x})"
    if kind == Kind.FLUSH and (length or op["offset"]):
        return "is a flush of a part of the disk"
    limit = MAX_LENGTH["data" if kind in CARRIES_DATA or kind == Kind.READ else "other"]
    if length > limit:
        return f"has {length} bytes: its kind has at most {limit}"
    if not length and kind != Kind.FLUSH:
        return "has no bytes"
    if op["completed"] < op["submitted"]:
        return "completed before it was submitted"
    return ""


def _wrong_mismatch(found: dict[str, int]) -> str:
    known = found["fault"] in Fault.__members__.values()
    return "" if known else f"is of no known kind ({found['fault']})"


def _wrong_settle(found: dict[str, int]) -> str:
    if not found["length"]:
        return "has no bytes"
    winner = found["winner"]
    return f"has {winner} as its winner" if MAX_INT < winner != NO_SEQ else ""


_WRONG = {Tag.OP: _wrong_op, Tag.MISMATCH: _wrong_mismatch, Tag.SETTLE: _wrong_settle}


def _beyond(found: dict[str, int], size: int) -> str:
    place = f"{found['length']} bytes at byte {found['offset']}"
    return f"has {place}: beyond the disk, which has {size} bytes"
