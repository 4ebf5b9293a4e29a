"""Signs of damage in the bytes: flipped bits, a boundary between new and old data, a shift.

Pure functions on bytes; sectors are rows of 512 uint8 each.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from analysis.provenance.rows import Flags, Ints, Octets
from tracer.op import SECTOR

MAX_FLIPS = 8
"""The most wrong bits in a sector that count as flips. Faults of memory and buses change one bit or
a few. Unrelated content differs in half of its bits: in 2,048 bits of a sector, in 16 bits of a
single 32-bit word. Of overwritten words, 0.35 % differ in eight bits or fewer."""

MAX_SHOWN = 16
"""Flipped bytes that are listed."""

PROBE = 32
"""Bytes that are searched for at other places, and the fewest matching bytes that prove a shift."""

MIN_VALUES = 8
"""The fewest different byte values in a probe: zeroes and fillers are found everywhere."""

MAX_PROBES = 32
"""Probes for a range."""

MAX_FOUND = 16
"""Places counted for one probe. If there are more, the data repeats itself and the distance says
little."""


def flips(expected: Octets, actual: Octets) -> Ints:
    """Return how many bits of each row differ."""
    bits: Ints = np.bitwise_count(expected ^ actual).sum(axis=1, dtype=np.int64)
    return bits


def flipped(expected: Octets, actual: Octets, offset: int) -> list[list[int]]:
    """Return the first MAX_SHOWN bytes that differ, as [offset, mask].

    ``offset`` is the place of the first byte on the disk.
    """
    masks = (expected ^ actual).ravel()
    return [[offset + int(at), int(masks[at])] for at in np.flatnonzero(masks)[:MAX_SHOWN]]


def tear(
    new: Octets, old: Octets, now: Octets, seen: Flags, offset: int
) -> tuple[int, int, bool] | None:
    """Return the one boundary between the part of a write that arrived and the part that did not.

    The result is the byte on the disk, how many bytes long the range is in which the boundary may
    lie, and whether the first part arrived; None unless there is exactly one boundary. The arrays
    are of the same range, which begins at byte ``offset``. ``seen`` is where no later op wrote.
    Only bytes in which new and old differ count, so the boundary may be known only to lie in a
    range; the result is then the multiple of the largest power of two in it.
    """
    differing = np.flatnonzero(seen & (new != old))
    if not len(differing):
        return None
    arrived = now[differing] == new[differing]
    if not (arrived | (now[differing] == old[differing])).all():
        return None
    switches = np.flatnonzero(np.diff(arrived.view(np.int8)))
    if len(switches) != 1:
        return None
    last, first = differing[switches[0]], differing[switches[0] + 1]
    room = int(first) - int(last)
    return roundest(offset + int(last) + 1, offset + int(first)), room, bool(arrived[0])


def roundest(first: int, last: int) -> int:
    """Return the multiple of the largest power of two from ``first`` (above 0) to ``last``."""
    for power in range(last.bit_length(), -1, -1):
        number = -(-first >> power) << power
        if number <= last:
            return number
    raise ValueError("the range is empty")


def power_of_two(number: int) -> int:
    """Return the largest power of two that divides a number above 0."""
    return number & -number


def moved_by(
    actual: Octets, expected: Octets, offset: int, text: bytes, text_offset: int
) -> list[int]:
    """Return the distances in bytes by which parts of ``text`` may have moved into ``actual``.

    The distances that most probes support come first, then the shortest. Offsets are bytes on the
    disk.
    """
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
    """Yield distinctive pieces of the wrong data, as (place, bytes)."""
    rows = len(actual)
    flat = actual.tobytes()
    wrong = (actual != expected).ravel()
    for row in sorted({int(row) for row in np.linspace(0, rows - 1, min(rows, MAX_PROBES // 2))}):
        places = range(row * SECTOR, (row + 1) * SECTOR - PROBE + 1, PROBE // 2)
        chosen: set[int] = set()
        for order in (places, reversed(places)):
            for at in order:
                if len(set(flat[at : at + PROBE])) >= MIN_VALUES and wrong[at : at + PROBE].any():
                    chosen.add(at)
                    break
        for at in sorted(chosen):
            yield at, flat[at : at + PROBE]


def moved(
    actual: Octets, expected: Octets, offset: int, text: bytes, text_offset: int, by: int
) -> Ints:
    """Return, for each row, a wrong byte that equals the byte of ``text`` ``by`` bytes before it.

    Of several such bytes the middle one is returned, since a few at the ends agree by chance. -1 if
    the shift does not explain the row: if fewer than PROBE and fewer than half of the wrong bytes
    agree.
    """
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
    agree, total = explained.sum(axis=1), wrong.sum(axis=1)
    rows = (agree >= PROBE) | (2 * agree >= total)
    if 2 * agree[rows].sum() < total[rows].sum():  # the rows agree only here and there
        rows[:] = False
    middle = (2 * explained.cumsum(axis=1) >= agree[:, np.newaxis]).argmax(axis=1)
    return np.where(rows, middle, -1)
