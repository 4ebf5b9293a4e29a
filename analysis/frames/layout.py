"""The layout of an op record as a numpy dtype, and batches of op records.

Records have a fixed width, so a block of the file already is a table. The layout must match ``_OP``
in tracer/trace/records.py.
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
"""Neighbouring fields of the same type. numpy extracts them together in half the time."""

_PREFIXES = {1: b"\xcc", 2: b"\xcd", 4: b"\xce", 8: b"\xcf", 16: b"\xc4\x10"}
"""The msgpack prefix of a field, by the field's size in bytes: uint 8 to 64, and bin 8 with its
length."""

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
"""Bits that are clear in a sound op, so that its numbers fit int64. NO_TIME is an exception."""

Ops = npt.NDArray[np.void]
"""Op records, with dtype OP_DTYPE."""

Array = npt.NDArray[Any]


def _lay_out() -> tuple[np.dtype[np.void], npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Return the dtype of an op record, the bits that all op records have in common, and the mask
    of those bits. The last two are arrays of 32-bit words, 27 to a record."""
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
"""The dtype of an op record; the bits that every op record has; the mask of those bits."""


def place(field: str) -> int:
    """Return the byte of a record at which a field begins."""
    assert OP_DTYPE.fields is not None
    return OP_DTYPE.fields[field][1]


_NATIVE = {
    name: np.dtype(code).newbyteorder("=") if code != ">u8" else np.dtype(np.int64)
    for name, code in _FIELDS.items()
}
"""The native dtype of each field. 63-bit numbers become signed integers, which are easier to use in
polars."""

_STEP = 1 << 13
"""Records that are decoded at a time, field by field: 885 kB, which fit a CPU's second cache."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Ops of a trace, sorted by seq. The records are as in the file, and are decoded on request."""

    pieces: tuple[Ops, ...]
    places: Array | None = None
    """The index of each op among the records of all pieces. None: the ops are those records, in
    this order."""

    def __len__(self) -> int:
        return sum(map(len, self.pieces)) if self.places is None else len(self.places)

    def fields(self, names: Iterable[str]) -> dict[str, Array]:
        """Return fields by name, as arrays of native integers. NO_TIME becomes -1."""
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
        if len(rows) < high - low:  # copy: a row would keep the whole table in memory
            found |= {_WIDE[row]: wide[row - low].copy() for row in rows}
        return found

    def take(self, places: Array) -> "Batch":
        """Return the ops at these indexes, as a batch that keeps no other records in memory."""
        wanted = places if self.places is None else self.places[places]
        chosen = np.empty(len(wanted), f"V{RECORD_SIZE}")
        start = 0
        for piece in self.pieces:
            here = (wanted >= start) & (wanted < start + len(piece))
            chosen[here] = opaque(piece)[wanted[here] - start]
            start += len(piece)
        return Batch((chosen.view(OP_DTYPE),))

    def head(self, count: int) -> "Batch":
        """Return the first ``count`` ops, or all if there are fewer."""
        return self if count >= len(self) else self.take(np.arange(count))


def opaque(ops: Ops) -> npt.NDArray[np.void]:
    """Return the same records as a dtype without fields, which numpy copies seven times as fast."""
    return ops.view(f"V{RECORD_SIZE}")
