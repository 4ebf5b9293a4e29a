"""The records of a trace: what each kind holds, and how to pack and unpack it. No I/O.

docs/trace-format.md is the specification. Each record is a msgpack array whose elements have the
widest msgpack types, so every record has RECORD_SIZE bytes. So any msgpack library can read the
stream, and numpy can view it as a strided table (``OP_DTYPE`` in analysis/frames/layout.py is the
twin of ``_OP``).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import reduce
from operator import or_
from typing import Any

from tracer.op import FLAGS_OF, KIND_BY_NUMBER, NO_SEQ, NO_TIME, Fault, Op

MAX_LENGTH = {"data": 32 << 20, "other": (1 << 32) - 1}
"""The most bytes in an op: 32 MiB if its request or reply carries data (NBD's limit), otherwise
what NBD's 32-bit length can express."""

MAX_INT = (1 << 63) - 1
"""The largest seq, time or count: what 63 bits hold, so that it is a signed number in a frame."""


class Tag(IntEnum):
    """A record's kind: its first element."""

    OP = 1
    MARK = 2
    MISMATCH = 3
    END = 4
    SETTLE = 5
    RESTART = 6
    LOWER = 7
    """Reserved for the driver's own I/O."""
    ACTION = 8
    """Reserved for what is done to the driver: a snapshot, a resize."""


MAX_TAG = 0x7F
"""The largest number of a kind: what msgpack holds in one byte."""

_OP = struct.Struct(">BB BQ BB BH BQ BQ BQ BQ BQ BQ BH BH BI BQ BB16s".replace(" ", ""))
"""An array of 15: the tag, then each field after its msgpack type byte."""

RECORD_SIZE = _OP.size
"""Bytes in a record of any kind."""

_MISMATCH = struct.Struct(">BB BQ BB BQ BQ BH BH BQ BQ BB16s BB33s".replace(" ", ""))
_MARK = struct.Struct(">BB BQ BQ BB86s".replace(" ", ""))
_END = struct.Struct(">BB BQ BQ BQ BB77s".replace(" ", ""))
_SETTLE = struct.Struct(">BB BQ BQ BQ BQ BQ BB16s BB41s".replace(" ", ""))
_RESTART = _MARK

assert _MARK.size == _MISMATCH.size == _END.size == _SETTLE.size == RECORD_SIZE

_ARRAY = 0x90  # msgpack fixarray; + count
_U8, _U16, _U32, _U64, _BIN8, _STR8 = 0xCC, 0xCD, 0xCE, 0xCF, 0xC4, 0xD9

_OP_TYPES = (
    _ARRAY + 15, _U64, _U8, _U16, _U64, _U64, _U64, _U64, _U64, _U64, _U16, _U16, _U32, _U64,
    _BIN8, 16,
)  # fmt: skip

KNOWN_FLAGS = reduce(or_, FLAGS_OF.values())
"""The flags that the record of any op may have."""

MAX_MARK = 86
"""Bytes in a mark's name, and in why a driver was restarted, in UTF-8."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A named moment: before op ``seq``, ``time`` ns after the trace's start."""

    seq: int
    time: int
    name: str


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A difference between the two sides: on op ``seq``, or after the run (FINAL; ``seq`` is then
    the number that the next op would have had).

    ``offset`` and ``length`` are the byte range from the first to the last byte that differs. The
    statuses are errno values. ``time`` is in ns since the trace's start. ``payload`` and ``digest``
    describe the bytes that the test side returned.
    """

    seq: int
    fault: int
    offset: int
    length: int
    expected_status: int
    actual_status: int
    time: int
    payload: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The last record of a closed trace: the number of its ops and mismatches, the time (ns since
    the trace's start) and how the run ended."""

    ops: int
    mismatches: int
    time: int
    verdict: str


@dataclass(frozen=True, slots=True)
class Settle:
    """What a range holds after ops that conflicted in flight, where their order does not tell.

    ``seq`` is the op whose answer decided, ``winner`` the op whose value the ``length`` bytes from
    ``offset`` hold, or NO_SEQ. ``time`` is in ns since the trace's start. ``digest`` is that of
    these bytes.
    """

    seq: int
    offset: int
    length: int
    winner: int
    time: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Restart:
    """The driver was stopped and started again before op ``seq``, ``time`` ns after the trace's
    start. ``why`` says what for, in a few words."""

    seq: int
    time: int
    why: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A record of a kind that this version does not know, or that is reserved."""

    tag: int


Record = Op | Mark | Mismatch | End | Settle | Restart | Unknown


def pack_op(op: Op) -> bytes:
    """Return an op's record."""
    return _OP.pack(
        _ARRAY + 15, Tag.OP,
        _U64, op.seq, _U8, op.kind, _U16, op.flags, _U64, op.offset, _U64, op.length,
        _U64, op.submitted, _U64, op.completed, _U64, op.reference_ns, _U64, op.test_ns,
        _U16, op.reference_status, _U16, op.test_status, _U32, op.connection,
        _U64, op.payload, _BIN8, 16, op.digest,
    )  # fmt: skip


def pack_mark(mark: Mark) -> bytes:
    """Return a mark's record. Raises ValueError if the name is longer than MAX_MARK bytes."""
    name = mark.name.encode()
    if len(name) > MAX_MARK:
        raise ValueError(f"a mark's name has at most {MAX_MARK} bytes")
    return _MARK.pack(_ARRAY + 4, Tag.MARK, _U64, mark.seq, _U64, mark.time, _STR8, MAX_MARK, name)


def pack_mismatch(m: Mismatch) -> bytes:
    """Return a mismatch's record."""
    return _MISMATCH.pack(
        _ARRAY + 11, Tag.MISMATCH,
        _U64, m.seq, _U8, m.fault, _U64, m.offset, _U64, m.length,
        _U16, m.expected_status, _U16, m.actual_status, _U64, m.time, _U64, m.payload,
        _BIN8, 16, m.digest, _BIN8, 33, b"",
    )  # fmt: skip


def pack_end(end: End) -> bytes:
    """Return the end record."""
    return _END.pack(
        _ARRAY + 5, Tag.END,
        _U64, end.ops, _U64, end.mismatches, _U64, end.time, _STR8, 77, end.verdict.encode(),
    )  # fmt: skip


def pack_settle(settle: Settle) -> bytes:
    """Return a settle's record."""
    return _SETTLE.pack(
        _ARRAY + 8, Tag.SETTLE,
        _U64, settle.seq, _U64, settle.offset, _U64, settle.length, _U64, settle.winner,
        _U64, settle.time, _BIN8, 16, settle.digest, _BIN8, 41, b"",
    )  # fmt: skip


def pack_restart(restart: Restart) -> bytes:
    """Return a restart's record. Raises ValueError if ``why`` is longer than MAX_MARK bytes."""
    why = restart.why.encode()
    if len(why) > MAX_MARK:
        raise ValueError(f"why a driver was restarted takes at most {MAX_MARK} bytes")
    return _RESTART.pack(
        _ARRAY + 4, Tag.RESTART, _U64, restart.seq, _U64, restart.time, _STR8, MAX_MARK, why
    )


def _unpack_op(data: Any, at: int, size: int) -> Op | None:
    (
        array, _,
        t1, seq, t2, kind, t3, flags, t4, offset, t5, length, t6, submitted, t7, completed,
        t8, reference_ns, t9, test_ns, t10, reference_status, t11, test_status, t12, connection,
        t13, payload, t14, width, digest_,
    ) = _OP.unpack_from(data, at)  # fmt: skip
    types = (array, t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12, t13, t14, width)
    limit = MAX_LENGTH["data"] if kind in (0, 1, 64) else MAX_LENGTH["other"]
    if (
        types != _OP_TYPES
        or kind not in KIND_BY_NUMBER
        or (flags and flags & ~FLAGS_OF[kind])
        or length > limit
        or offset + length > size
        or (not length and kind != 3)
        or (kind == 3 and (length or offset))
        or (seq | submitted | reference_ns | test_ns) > MAX_INT
        or completed < submitted
        or (completed > MAX_INT and completed != NO_TIME)
    ):
        return None
    return Op(
        seq, kind, flags, offset, length, submitted, completed, reference_ns, test_ns,
        reference_status, test_status, connection, payload, digest_,
    )  # fmt: skip


def _unpack_mark(data: Any, at: int, _size: int) -> Mark | None:
    array, _, t1, seq, t2, time, t3, width, name = _MARK.unpack_from(data, at)
    if (array, t1, t2, t3, width) != (_ARRAY + 4, _U64, _U64, _STR8, MAX_MARK):
        return None
    words = _text(name)
    return None if words is None or (seq | time) > MAX_INT else Mark(seq, time, words)


def _unpack_restart(data: Any, at: int, size: int) -> Restart | None:
    mark = _unpack_mark(data, at, size)
    return None if mark is None else Restart(mark.seq, mark.time, mark.name)


def _unpack_settle(data: Any, at: int, size: int) -> Settle | None:
    (
        array, _, t1, seq, t2, offset, t3, length, t4, winner, t5, time, t6, width, digest_,
        t7, pad, _,
    ) = _SETTLE.unpack_from(data, at)  # fmt: skip
    types = (array, t1, t2, t3, t4, t5, t6, width, t7, pad)
    if (
        types != (_ARRAY + 8, _U64, _U64, _U64, _U64, _U64, _BIN8, 16, _BIN8, 41)
        or not length
        or offset + length > size
        or (seq | time) > MAX_INT
        or (winner > MAX_INT and winner != NO_SEQ)
    ):
        return None
    return Settle(seq, offset, length, winner, time, digest_)


def _unpack_mismatch(data: Any, at: int, size: int) -> Mismatch | None:
    (
        array, _, t1, seq, t2, fault, t3, offset, t4, length, t5, expected, t6, actual,
        t7, time, t8, payload, t9, width, digest_, t10, pad, _,
    ) = _MISMATCH.unpack_from(data, at)  # fmt: skip
    types = (array, t1, t2, t3, t4, t5, t6, t7, t8, t9, width, t10, pad)
    wanted = (
        _ARRAY + 11, _U64, _U8, _U64, _U64, _U16, _U16, _U64, _U64, _BIN8, 16, _BIN8, 33,
    )  # fmt: skip
    if (
        types != wanted
        or fault not in Fault.__members__.values()
        or offset + length > size
        or (seq | time) > MAX_INT
    ):
        return None
    return Mismatch(seq, fault, offset, length, expected, actual, time, payload, digest_)


def _unpack_end(data: Any, at: int, _size: int) -> End | None:
    array, _, t1, ops, t2, mismatches, t3, time, t4, width, verdict = _END.unpack_from(data, at)
    if (array, t1, t2, t3, t4, width) != (_ARRAY + 5, _U64, _U64, _U64, _STR8, 77):
        return None
    words = _text(verdict)
    if words is None or (ops | mismatches | time) > MAX_INT:
        return None
    return End(ops, mismatches, time, words)


def _text(padded: bytes) -> str | None:
    """Return a text without its padding; None if it is not UTF-8."""
    try:
        return padded.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        return None


UNPACK: dict[int, Callable[[Any, int, int], Record | None]] = {
    Tag.OP: _unpack_op,
    Tag.MARK: _unpack_mark,
    Tag.MISMATCH: _unpack_mismatch,
    Tag.END: _unpack_end,
    Tag.SETTLE: _unpack_settle,
    Tag.RESTART: _unpack_restart,
}
"""By tag, the function that unpacks a record: (buffer, byte in it, disk's size in bytes) -> the
record, or None if the bytes are not a valid record of that kind for a disk of that size."""


def unpack(data: Any, at: int, size: int) -> Record | None:
    """Return the record at byte ``at`` of a buffer; None if it is not valid for a disk of ``size``
    bytes. A kind that is not known here is valid if the record is a msgpack array."""
    unpack_kind = UNPACK.get(data[at + 1])
    if unpack_kind is not None:
        return unpack_kind(data, at, size)
    known_form = data[at] & 0xF0 == _ARRAY and 0 < data[at + 1] <= MAX_TAG
    return Unknown(data[at + 1]) if known_form else None
