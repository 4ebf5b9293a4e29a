"""What a fault does. Offsets and lengths are KiB where they say where, bytes where they cut data.

The first group is done in place of what a write or a zero should do, the second besides what any op
should do, the third is no damage to the image at all.
"""

import os
import random
import time
from collections.abc import Callable

from tests.kit.faulty.disk import KIB, Disk, Effect, Reply, Request, near

FOREIGN = random.Random("foreign").randbytes(KIB)
"""Bytes that no workload writes."""


def lose(disk: Disk, request: Request) -> None:
    """Store nothing."""


def tear(keep: int) -> Effect:
    """Store the first ``keep`` bytes only."""
    return lambda disk, request: disk.put(request.offset, _wanted(request)[:keep])


def behead(lost: int) -> Effect:
    """Store all but the first ``lost`` bytes."""
    return lambda disk, request: disk.put(request.offset + lost, request.data[lost:])


def move(by: int, skip: int = 0) -> Effect:
    """Store the data ``by`` KiB further on, all but the first ``skip`` bytes of it."""

    def effect(disk: Disk, request: Request) -> None:
        data = _wanted(request)
        disk.put(request.offset, data[:skip])
        disk.put(request.offset + by * KIB + skip, data[skip:])

    return effect


def blank(disk: Disk, request: Request) -> None:
    """Store zeroes."""
    disk.put(request.offset, bytes(request.length))


def garble(disk: Disk, request: Request) -> None:
    """Store bytes that nobody wrote."""
    disk.put(request.offset, FOREIGN * (request.length // len(FOREIGN)))


def flip(*bits: int) -> Effect:
    """Store the data with some bits flipped, counted from the data's first."""
    return lambda disk, request: disk.put(request.offset, _flipped(request.data, bits))


def shift(by: int) -> Effect:
    """Store the data ``by`` bytes early; what falls off at the front comes last. Negative is
    late."""
    return lambda disk, request: disk.put(request.offset, request.data[by:] + request.data[:by])


def keep_older(disk: Disk, request: Request) -> None:
    """Store what was there before the last write."""
    disk.put(request.offset, disk.older(request.offset, request.length, 1))


def undo_neighbours(disk: Disk, request: Request) -> None:
    """Read the cluster before others in flight changed it, and write it back whole after they
    did."""
    for one in near(request, disk.earlier):
        disk.put(one.offset, disk.older(one.offset, one.length, 1))
    disk.right(request)


# ---------------------------------------------------------------- besides the right thing


def zero(at: int, length: float) -> Effect:
    """Zero a range."""
    return _besides(lambda disk: disk.put(at * KIB, bytes(int(length * KIB))))


def spoil(at: int) -> Effect:
    """Put a KiB that nobody wrote somewhere."""
    return _besides(lambda disk: disk.put(at * KIB, FOREIGN))


def revert(at: int, length: int, back: int) -> Effect:
    """Bring back what a range held ``back`` changes ago."""
    return _besides(lambda disk: disk.put(at * KIB, disk.older(at * KIB, length * KIB, back)))


def copy(source: int, to: int, length: int) -> Effect:
    """Put the data of one place into another too."""
    return _besides(lambda disk: disk.put(to * KIB, disk.get(source * KIB, length * KIB)))


def flip_at(at: int, *bits: int) -> Effect:
    """Flip bits of a sector."""
    return _besides(lambda disk: disk.put(at * KIB, _flipped(disk.get(at * KIB, 512), bits)))


# ---------------------------------------------------------------- no damage to the image


def fail(error: int) -> Effect:
    """Do nothing, and say so."""
    return lambda disk, request: Reply(error)


def crash(disk: Disk, request: Request) -> None:
    """End on the spot."""
    os.abort()


def hang(disk: Disk, request: Request) -> None:
    """Never answer, as far as anyone will wait."""
    time.sleep(60)


def break_metadata(disk: Disk, request: Request) -> None:
    """Leave a mark that the driver's check command finds."""
    with open(disk.image + ".bad", "w") as mark:
        mark.write("metadata is wrong")
    disk.right(request)


def misread(*bits: int) -> Effect:
    """Answer a read with bits flipped."""
    return lambda disk, request: Reply(
        data=_flipped(disk.get(request.offset, request.length), bits)
    )


def call_hole(at: int, length: int) -> Effect:
    """Say in a block status that a range is a hole."""
    start, end = at * KIB, (at + length) * KIB

    def effect(disk: Disk, request: Request) -> Reply:
        first, last = request.offset, request.offset + request.length
        pieces = [(first, min(start, last), 0), (max(first, start), min(end, last), 3)]
        pieces.append((max(first, end), last, 0))
        return Reply(extents=[(stop - at, state) for at, stop, state in pieces if at < stop])

    return effect


# ---------------------------------------------------------------- helpers


def _besides(change: Callable[[Disk], None]) -> Effect:
    def effect(disk: Disk, request: Request) -> Reply | None:
        reply = disk.right(request)
        change(disk)
        return reply

    return effect


def _wanted(request: Request) -> bytes:
    """What a write or a zero should store."""
    return request.data or bytes(request.length)


def _flipped(data: bytes, bits: tuple[int, ...]) -> bytes:
    flipped = bytearray(data)
    for bit in bits:
        flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)
