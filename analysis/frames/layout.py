"""An op's record as numpy sees it, and batches of such records.

The twin of ``tracer.trace._OP``. Records are fixed-width: a block of the file is a table already.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.trace.records import KNOWN_FLAGS, MAX_LENGTH, RECORD_SIZE, Tag

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
_WIDE = ("offset", "length", "submitted", "completed", "reference_ns", "test_ns")
"""Fields side by side, all alike: numpy takes them out of a record together in half the time."""

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
    wide = np.dtype({"names": ["value"], "formats": [">i8"], "offsets": [1], "itemsize": 9})
    dtype = np.dtype(
        {
            "names": ["tag", *_FIELDS, "wide"],
            "formats": ["u1", *_FIELDS.values(), (wide, len(_WIDE))],
            "offsets": [*offsets, offsets[1 + list(_FIELDS).index(_WIDE[0])] - 1],
            "itemsize": RECORD_SIZE,
        }
    )
    return dtype, np.frombuffer(bytes(alike), np.uint32), np.frombuffer(bytes(mask), np.uint32)


OP_DTYPE, ALIKE, MASK = _lay_out()
"""An op's record as numpy sees it: the twin of ``tracer.trace._OP``."""


def place(field: str) -> int:
    """The byte of a record at which a field begins."""
    assert OP_DTYPE.fields is not None
    return OP_DTYPE.fields[field][1]


_NATIVE = {
    name: np.dtype(code).newbyteorder("=") if code != ">u8" else np.dtype(np.int64)
    for name, code in _FIELDS.items()
}
"""What fields are turned into: 63 bits fit a signed integer, which polars and people prefer."""

_STEP = 1 << 13
"""Records of which one field after the other is taken: 885 kB, which a CPU's second cache keeps."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Ops of a trace, by seq. Their records stay as they are in the file until fields are asked for."""

    pieces: tuple[Ops, ...]
    places: Array | None = None
    """Of each op among the records of all pieces; None: they are the ops, in this order."""

    def __len__(self) -> int:
        return sum(map(len, self.pieces)) if self.places is None else len(self.places)

    def fields(self, names: Iterable[str]) -> dict[str, Array]:
        """Fields as arrays of the machine's own numbers; a time that is NO_TIME is -1."""
        total = sum(map(len, self.pieces))
        wanted = set(names)
        found = {name: np.empty(total, _NATIVE[name]) for name in wanted.difference(_WIDE)}
        rows = [row for row, name in enumerate(_WIDE) if name in wanted]
        low, high = (rows[0], rows[-1] + 1) if rows else (0, 0)
        wide = np.empty((high - low, total), np.int64)
        at = 0
        for piece in self.pieces:
            for first in range(0, len(piece), _STEP):
                part = piece[first : first + _STEP]
                here = slice(at, at + len(part))
                for name, values in found.items():
                    values[here] = part[name]
                if rows:
                    wide[:, here] = part["wide"]["value"][:, low:high].T
                at += len(part)
        found |= {_WIDE[row]: wide[row - low] for row in rows}
        if self.places is not None:
            return {name: values.take(self.places) for name, values in found.items()}
        if len(rows) < high - low:  # a row keeps the whole table, with what was not asked for
            found |= {_WIDE[row]: wide[row - low].copy() for row in rows}
        return found

    def take(self, places: Array) -> "Batch":
        """Some of the ops, without keeping the records of others."""
        wanted = places if self.places is None else self.places[places]
        chosen = np.empty(len(wanted), f"V{RECORD_SIZE}")
        start = 0
        for piece in self.pieces:
            here = (wanted >= start) & (wanted < start + len(piece))
            chosen[here] = opaque(piece)[wanted[here] - start]
            start += len(piece)
        return Batch((chosen.view(OP_DTYPE),))

    def head(self, count: int) -> "Batch":
        """The first so many, or all if there are no more."""
        return self if count >= len(self) else self.take(np.arange(count))


def opaque(ops: Ops) -> npt.NDArray[np.void]:
    """The same records without fields: numpy copies such seven times as fast."""
    return ops.view(f"V{RECORD_SIZE}")
