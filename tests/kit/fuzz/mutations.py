"""Random changes of a trace, its payloads and its verdict: of bytes, and of fields.

Each function changes the files in place and returns in a few words what it did. The same seed makes
the same change.
"""

import json
import random
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import zstandard

from tracer.trace.payloads import BLOCK_HEAD, MAX_BLOCK, pack_block_head
from tracer.trace.records import RECORD_SIZE

NUMBERS = [
    0, 1, 2, 3, 5, 7, 255, 511, 512, 4096, 65535, 1 << 20, (1 << 20) + 2, (1 << 23) - 1, 1 << 23,
    (1 << 25) + 1, (1 << 31) - 1, (1 << 32) - 1, 1 << 32, (1 << 62), (1 << 62) + 1, (1 << 63) - 1,
    1 << 63, (1 << 64) - 2, (1 << 64) - 1,
]  # fmt: skip
"""Numbers at which something changes."""

TEXTS = [
    "", "x", "\x1b]0;owned\x07\x1b[2J", "\u202egnp.exe\u2066", "a\nb\r\tc\0d", "../../etc/passwd",
    "$x_1^{2}$ \\frac{", "<script>", "%s{0}", "é" * 300, "y" * 100_000, "\ud800", "12", "#3", "-1",
]  # fmt: skip

VALUES: list[Any] = [
    *NUMBERS[:22], *TEXTS, None, True, False, -1, -(1 << 63), 1.5, float("nan"), float("inf"),
    1e308, [], {}, [[]], {"a": 1}, [1, "a", None],
]  # fmt: skip

FIELDS = [
    (3, 8), (12, 1), (14, 2), (17, 8), (26, 8), (35, 8), (44, 8), (53, 8), (62, 8), (71, 2),
    (74, 2), (77, 4), (82, 8), (92, 16), (12, 8), (21, 8), (30, 8), (39, 8), (0, 1), (1, 1),
]  # fmt: skip
"""Where the fields of an op are in its record, then those of a settle that are elsewhere, then what
every record begins with; and their sizes in bytes."""


def nested(chance: random.Random) -> Any:
    """A value inside many others."""
    value: Any = 1
    for _ in range(chance.choice([3, 15, 17, 100, 500, 900, 1100, 5000])):
        value = [value] if chance.random() < 0.5 else {"a": value}
    return value


# ---------------------------------------------------------------- any bytes


def any_bytes(data: bytearray, chance: random.Random) -> str:
    """Change bytes of a file: flip, set, cut off, insert, remove or copy."""
    way = chance.randrange(7)
    if not data:
        return "nothing to change"
    at = chance.randrange(len(data))
    some = chance.choice([1, 2, 4, 8, 36, RECORD_SIZE, 1000])
    if way == 0:
        for _ in range(chance.choice([1, 1, 2, 8, 64])):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        return "flipped bits"
    if way == 1:
        data[at : at + some] = chance.randbytes(some)
        return f"random bytes at {at}"
    if way == 2:
        del data[at:]
        return f"cut off at {at}"
    if way == 3:
        del data[at : at + some]
        return f"{some} bytes removed at {at}"
    if way == 4:
        data[at:at] = chance.randbytes(some)
        return f"{some} bytes inserted at {at}"
    start = chance.randrange(len(data))
    piece = data[start : start + some]
    if way == 5:
        data[at:at] = piece
        return f"bytes of {start} inserted at {at}"
    data[at : at + len(piece)] = piece
    return f"bytes of {start} copied to {at}"


# ---------------------------------------------------------------- a trace


def header(data: bytearray, chance: random.Random) -> str:
    """Change the header's map, at any depth."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(bytes(data))
    found, end = unpacker.unpack(), unpacker.tell()
    told = change(found, chance, binary=True)
    try:
        data[:end] = msgpack.packb(found)
    except (ValueError, OverflowError, UnicodeEncodeError, RecursionError):
        return "nothing: it does not fit into msgpack"
    return f"header: {told}"


def records(data: bytearray, chance: random.Random) -> str:
    """Change the records: fields, order, number."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(bytes(data))
    unpacker.skip()
    first = unpacker.tell()
    count = (len(data) - first) // RECORD_SIZE
    told = []
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        one, other = (first + chance.randrange(count) * RECORD_SIZE for _ in "ab")
        way = chance.randrange(6)
        if way == 0:  # one after another, so that neither overlaps
            a, b = data[one : one + RECORD_SIZE], data[other : other + RECORD_SIZE]
            data[one : one + RECORD_SIZE], data[other : other + RECORD_SIZE] = b, a
            told.append("two records swapped")
        elif way == 1:
            data[other : other + RECORD_SIZE] = data[one : one + RECORD_SIZE]
            told.append("a record written over another")
        else:
            at, size = chance.choice(FIELDS)
            number = chance.choice(NUMBERS)
            if chance.random() < 0.3:  # near what it was
                number = int.from_bytes(data[one + at : one + at + size], "big")
                number += chance.choice([-1, 1, 512, -512, 1 << 20])
            number %= 1 << 8 * size
            data[one + at : one + at + size] = number.to_bytes(size, "big")
            told.append(f"{number} at byte {at} of record {(one - first) // RECORD_SIZE}")
    return ", ".join(told)


# ---------------------------------------------------------------- payloads


def blocks(data: bytearray, chance: random.Random) -> str:
    """Change the payload store: heads of blocks, and frames."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(bytes(data))
    unpacker.skip()
    at = unpacker.tell()
    places = []
    while at + BLOCK_HEAD.size <= len(data):
        places.append(at)
        at += BLOCK_HEAD.size + BLOCK_HEAD.unpack_from(data, at)[6]
    if not places:
        return header(data, chance)
    at = chance.choice(places)
    _, _, position, _, length, _, size = BLOCK_HEAD.unpack_from(data, at)
    end = at + BLOCK_HEAD.size + size
    frame = bytes(data[at + BLOCK_HEAD.size : end])
    way = chance.randrange(5)
    if way == 0:
        position, length, size = (
            chance.choice(NUMBERS) if chance.random() < 0.4 else number
            for number in (position, length, size)
        )
        head = pack_block_head(position, length % (1 << 32), size % (1 << 32))
        data[at : at + BLOCK_HEAD.size] = head
        return f"block at {at}: {position}, {length}, {size}"
    if way == 1:
        empty = pack_block_head(position, 0, 9) + zstandard.ZstdCompressor().compress(b"")[:9]
        data[at:at] = empty * chance.choice([1, 1000])
        return "empty blocks"
    content = bytes(
        chance.choice([1 << 10, length, MAX_BLOCK, 1 << 28 if chance.random() < 0.02 else 1 << 24])
    )
    if way == 2:
        frame = zstandard.ZstdCompressor().compress(content)
    elif way == 3:
        frame = zstandard.ZstdCompressor(write_content_size=False).compress(content)
    else:
        frame = zstandard.ZstdCompressor().compress(chance.randbytes(length))
    data[at:end] = pack_block_head(position, length, len(frame)) + frame
    return f"block at {at}: another frame ({len(content)} bytes)"


# ---------------------------------------------------------------- JSON


def verdict(data: bytearray, chance: random.Random) -> str:
    """Change a verdict's JSON: a value at any depth."""
    found = json.loads(bytes(data))
    told = change(found, chance, binary=False)
    if chance.random() < 0.02:
        data[:] = b'{"a":' * 100_000
        return "JSON nested for ever"
    try:
        data[:] = json.dumps(found).encode()
    except RecursionError:
        return "nothing: nested too deep for JSON"
    return f"verdict: {told}"


def change(found: Any, chance: random.Random, *, binary: bool) -> str:
    """Change a value at any depth of maps and lists."""
    while True:
        keys = list(found) if isinstance(found, dict) else list(range(len(found)))
        if not keys:
            return "nothing"
        key = chance.choice(keys)
        inner = found[key]
        if isinstance(inner, dict | list) and inner and chance.random() < 0.6:
            found = inner
            continue
        way = chance.random()
        if way < 0.1:
            del found[key]
            return f"{key} removed"
        value = chance.choice(VALUES) if way < 0.9 else nested(chance)
        if binary and way < 0.2:
            value = chance.choice([b"bytes", msgpack.ExtType(5, b"x"), msgpack.Timestamp(1)])
        if isinstance(found, dict) and chance.random() < 0.1:
            key = chance.choice([*TEXTS, 5, None] if binary else TEXTS)
        if isinstance(found, list) and chance.random() < 0.2:
            found.extend([value] * chance.choice([1, 2, 5000 if value != TEXTS[10] else 3]))
            return f"a longer list with {reprlib.repr(value)}"
        found[key] = value
        return f"{reprlib.repr(key)} = {reprlib.repr(value)}"


Mutate = Callable[[bytearray, random.Random], str]

MUTATIONS: list[tuple[int, str, Mutate]] = [
    (4, ".trace", records), (2, ".trace", any_bytes), (2, ".trace", header),
    (2, ".payloads", blocks), (1, ".payloads", any_bytes),
    (2, ".json", verdict), (1, ".json", any_bytes),
]  # fmt: skip
"""How often, of which file, and how."""


def mutate(folder: Path, name: str, chance: random.Random) -> tuple[str, str]:
    """Change one of the files of ``name`` in a folder. Return which, and what was done."""
    weights = [weight for weight, _, _ in MUTATIONS]
    _, suffix, how = chance.choices(MUTATIONS, weights)[0]
    path = folder / f"{name}{suffix}"
    if not path.exists():
        path, how = folder / f"{name}.trace", records
    data = bytearray(path.read_bytes())
    told = how(data, chance)
    path.write_bytes(data)
    return path.suffix, f"{path.name}: {told}"
