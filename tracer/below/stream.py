"""NAME.lower, the stream of lower ops beside a trace: its writer and its reader.

A msgpack stream: a header map, the pieces of the image before the first op, then an array per
event, in the order in which they happened (docs/trace-format.md). Any prefix of the file reads
back. tracer/below/stored.py has the bytes.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgpack

from tracer import digest
from tracer.below.events import Done, Event, Sent
from tracer.below.op import LowerKind, LowerOp
from tracer.errors import TraceError
from tracer.files import open_file, write_whole
from tracer.op import NO_PAYLOAD, NO_TIME
from tracer.trace.header import MAX_HEADER, MAX_SIZE, unpack_header
from tracer.trace.records import MAX_INT

FORMAT = "blkbox-lower"
VERSION = 1
SUFFIX = ".lower"

SENT, DONE, LOWER, START = 1, 2, 3, 4
"""The first element of an event's array."""

FUA = 1
"""The flag of a lower op."""


class Store(StrEnum):
    """Where the bytes are."""

    TRACE = "trace"
    """In the trace's payload store."""
    OWN = "own"
    """In NAME.lower.payloads."""
    NONE = "none"
    """Nowhere: there are digests alone."""


@dataclass(frozen=True, slots=True)
class LowerHeader:
    """What a NAME.lower says about itself. ``trace`` is the id of the trace whose ops these are,
    ``size`` that of the image file at the start, in bytes. ``driver`` is for information only."""

    trace: str
    size: int
    driver: dict[str, Any] = field(default_factory=dict)
    store: Store = Store.NONE


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the image file before the first op: ``offset`` and ``length`` in bytes, the digest
    and where the bytes are in the payload store. Between pieces, the file holds zeroes."""

    offset: int
    length: int
    digest: bytes
    payload: int


def lower_path(trace: Path) -> Path:
    """Return the path of a trace's lower ops: ``install.lower`` for ``install.trace``."""
    return trace.with_suffix(SUFFIX)


def write_lower(path: Path, header: LowerHeader, events: Iterable[Event | Piece]) -> None:
    """Write a NAME.lower, which replaces what has that name. Pieces come first. Raises
    StorageError."""
    write_whole(path, b"".join([pack_header(header), *map(pack, events)]))


def pack_header(header: LowerHeader) -> bytes:
    """Return a header as it is in the file."""
    head = {
        "format": FORMAT, "version": VERSION, "trace": header.trace, "size": header.size,
        "driver": header.driver, "digest": digest.NAME, "store": str(header.store),
    }  # fmt: skip
    return bytes(msgpack.packb(head))


def pack(event: Event | Piece) -> bytes:
    """Return an event, or a piece of the image, as it is in the file."""
    match event:
        case Sent():
            fields: tuple[Any, ...] = (SENT, event.seq, event.time)
        case Done():
            fields = (DONE, event.seq, event.time, event.error)
        case LowerOp():
            fields = (
                LOWER, event.number, int(event.kind), FUA if event.fua else 0, event.offset,
                event.length, event.digest, event.error, event.payload, event.time,
            )  # fmt: skip
        case Piece():
            fields = (START, event.offset, event.length, event.digest, event.payload)
    return bytes(msgpack.packb(fields))


def read_lower(path: Path) -> tuple[LowerHeader, Iterator[Event]]:
    """Return the header and the events of a NAME.lower, up to the last whole one.

    Raises TraceError if it is not one; the iterator does where an event is not valid.
    """
    header, found = read_all(path)
    return header, (event for event in found if not isinstance(event, Piece))


def read_all(path: Path) -> tuple[LowerHeader, Iterator[Event | Piece]]:
    """Return the same as ``read_lower``, with the pieces of the image before the first op."""
    try:
        fd = open_file(path)
    except OSError as error:
        raise TraceError(f"cannot open {path}: {error.strerror}") from error
    try:
        head = os.pread(fd, MAX_HEADER, 0)
        raw, at = unpack_header(path, head, kind="a stream of lower ops", name=FORMAT,
                                version=VERSION)  # fmt: skip
        if not (
            isinstance(raw.get("trace"), str) and _count(raw.get("size"), MAX_SIZE)
            and raw.get("store") in list(Store)
        ):  # fmt: skip
            raise TraceError(f"{path}: its header is damaged")
    finally:
        os.close(fd)
    driver = raw.get("driver")
    header = LowerHeader(raw["trace"], raw["size"], driver if isinstance(driver, dict) else {},
                         Store(raw["store"]))  # fmt: skip
    return header, _events(path, at)


def _events(path: Path, at: int) -> Iterator[Event | Piece]:
    with path.open("rb") as file:
        file.seek(at)
        unpacker = msgpack.Unpacker(file, max_buffer_size=1 << 20, max_array_len=16, max_map_len=0)
        number = 0
        while True:
            try:
                fields = unpacker.unpack()
            except msgpack.OutOfData:
                return
            except (ValueError, msgpack.UnpackException) as error:
                raise _invalid(path, number) from error
            event = _event(fields)
            if event is None:
                raise _invalid(path, number)
            yield event
            number += 1


def _invalid(path: Path, number: int) -> TraceError:
    return TraceError(f"{path}: event {number} is not valid")


def _event(fields: Any) -> Event | Piece | None:
    """Return an event, or a piece of the image; None if it is not valid."""
    match fields:
        case [1, seq, time] if _count(seq) and _count(time):
            return Sent(seq, time)
        case [2, seq, time, error] if _count(seq) and _count(time) and _count(error, 0xFFFF):
            return Done(seq, time, error)
        case [3, number, kind, flags, offset, length, bytes() as key, error, payload, time] if (
            all(map(_count, (number, flags))) and _count(error, 0xFFFF) and len(key) == 16
            and _count(payload, NO_PAYLOAD) and _count(time, NO_TIME)
            and _count(offset, MAX_SIZE) and _count(length, MAX_SIZE)
            and kind in list(LowerKind)
        ):  # fmt: skip
            return LowerOp(number, LowerKind(kind), offset, length, fua=bool(flags & FUA),
                           digest=key, error=error, payload=payload, time=time)  # fmt: skip
        case [4, offset, length, bytes() as key, payload] if (
            _count(offset, MAX_SIZE) and _count(length, MAX_SIZE) and len(key) == 16
            and _count(payload, NO_PAYLOAD)
        ):  # fmt: skip
            return Piece(offset, length, key, payload)
    return None


def _count(value: object, most: int = MAX_INT) -> bool:
    return type(value) is int and 0 <= value <= most
