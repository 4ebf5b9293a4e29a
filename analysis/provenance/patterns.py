"""Signs of damage in the bytes themselves: flipped bits, one boundary between new and old, a shift.

Pure functions on bytes; sectors are rows of 512 uint8 each.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from analysis.provenance.rows import Flags, Ints, Octets
from tracer.op import SECTOR

MAX_FLIPS = 8
"""Wrong bits in a sector that still count as flips. Faults of memory and buses are of one bit or a few.
Other content differs in half of its bits: in 2,048 of a sector, in 16 of a 32-bit word that alone was
overwritten; of such words 0.35 % differ in eight or fewer."""

MAX_SHOWN = 16
"""Flipped bytes that are listed."""

PROBE = 32
"""Bytes that are searched for at other places, and the fewest that say that they were moved."""

MIN_VALUES = 8
"""Different byte values in a probe: zeroes and fillers are found everywhere and tell nothing."""

MAX_PROBES = 32
MAX_FOUND = 16
"""Probes for a range, and places at which each may be found: where it is found more often the data
repeats itself, and the distance says little."""


def flips(expected: Octets, actual: Octets) -> Ints:
    """How many bits of each row differ."""
    bits: Ints = np.bitwise_count(expected ^ actual).sum(axis=1, dtype=np.int64)
    return bits


def flipped(expected: Octets, actual: Octets, offset: int) -> list[list[int]]:
    """The bytes that differ, up to MAX_SHOWN of them, as [offset, mask]; ``offset`` is the first
    byte's."""
    masks = (expected ^ actual).ravel()
    return [[offset + int(at), int(masks[at])] for at in np.flatnonzero(masks)[:MAX_SHOWN]]


def tear(
    new: Octets, old: Octets, now: Octets, seen: Flags, offset: int
) -> tuple[int, bool] | None:
    """The one boundary between what of a write arrived and what did not: its byte on the disk, and
    whether it is the first part that arrived. None where there is no such thing.

    All are of the same range, which begins at byte ``offset``; ``seen`` is where nothing was written
    since. Only bytes in which new and old differ can tell, so the boundary may be known to lie in a
    range only; then it is the place in it that is a multiple of the largest power of two.
    """
    telling = np.flatnonzero(seen & (new != old))
    if not len(telling):
        return None
    arrived = now[telling] == new[telling]
    if not (arrived | (now[telling] == old[telling])).all():
        return None
    switches = np.flatnonzero(np.diff(arrived.view(np.int8)))
    if len(switches) != 1:
        return None
    last, first = telling[switches[0]], telling[switches[0] + 1]
    return roundest(offset + int(last) + 1, offset + int(first)), bool(arrived[0])


def roundest(first: int, last: int) -> int:
    """The number from ``first`` (above 0) to ``last`` that is a multiple of the largest power of two."""
    for power in range(last.bit_length(), -1, -1):
        number = -(-first >> power) << power
        if number <= last:
            return number
    raise ValueError("the range is empty")


def power_of_two(number: int) -> int:
    """The largest power of two that a number above 0 is a multiple of."""
    return number & -number


def moved_by(
    actual: Octets, expected: Octets, offset: int, text: bytes, text_offset: int
) -> list[int]:
    """Distances in bytes by which parts of ``text`` may have been moved to be what ``actual`` is now:
    those that most probes tell first, then the shortest. Offsets are bytes on the disk."""
    votes: Counter[int] = Counter()
    for at, probe in _probes(actual, expected):
        found = text.find(probe)
        for _ in range(MAX_FOUND):
            if found < 0:
                break
            votes[offset + at - text_offset - found] += 1
            found = text.find(probe, found + 1)
    votes.pop(0, None)
    return sorted(votes, key=lambda by: (-votes[by], abs(by), by))


def _probes(actual: Octets, expected: Octets) -> Iterator[tuple[int, bytes]]:
    """Pieces of what is there and should not be, that can be told from others: (place, bytes)."""
    rows = len(actual)
    flat = actual.tobytes()
    wrong = (actual != expected).ravel()
    for row in sorted({int(row) for row in np.linspace(0, rows - 1, min(rows, MAX_PROBES // 2))}):
        places = range(row * SECTOR, (row + 1) * SECTOR - PROBE + 1, PROBE // 2)
        told: set[int] = set()
        for order in (places, reversed(places)):
            for at in order:
                if len(set(flat[at : at + PROBE])) >= MIN_VALUES and wrong[at : at + PROBE].any():
                    told.add(at)
                    break
        for at in sorted(told):
            yield at, flat[at : at + PROBE]


def moved(
    actual: Octets, expected: Octets, offset: int, text: bytes, text_offset: int, by: int
) -> Ints:
    """For each row a byte that is wrong and is what ``text`` has ``by`` bytes before it on the disk, the
    middle one of them: at the ends a few agree by chance. -1 where the row is not so explained: where
    that is said by fewer than PROBE of the bytes that are wrong, and by fewer than half of them."""
    first = offset - by - text_offset
    source = np.zeros(actual.size, np.uint8)
    known = np.zeros(actual.size, bool)
    start = max(0, -first)
    stop = max(start, min(actual.size, len(text) - first))
    if start < actual.size:
        source[start:stop] = np.frombuffer(text, np.uint8)[start + first : stop + first]
        known[start:stop] = True
    wrong = actual != expected
    explained = wrong & ((actual.ravel() == source) & known).reshape(actual.shape)
    told, total = explained.sum(axis=1), wrong.sum(axis=1)
    rows = (told >= PROBE) | (2 * told >= total)
    if 2 * told[rows].sum() < total[rows].sum():  # they only look alike here and there
        rows[:] = False
    middle = (2 * explained.cumsum(axis=1) >= told[:, np.newaxis]).argmax(axis=1)
    return np.where(rows, middle, -1)
