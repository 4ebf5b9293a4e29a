"""Steps that look at the bytes themselves: flipped bits, torn writes, shifted data."""

from dataclasses import dataclass

import numpy as np

from analysis.provenance import patterns
from analysis.provenance.case import NEAR, Case
from analysis.provenance.rows import Flags, Ints, Octets
from tracer.op import SECTOR
from tracer.verdict import DamageKind, Detail

MAX_DISTANCES = 4
"""The most distances tried for a shift, the likeliest first."""


def flips(case: Case) -> None:
    """Explain the rows in which only a few bits are wrong."""
    chosen = np.flatnonzero(case.open)
    bits = patterns.flips(case.rows.expected[chosen], case.rows.actual[chosen])
    few = chosen[bits <= patterns.MAX_FLIPS]
    case.explain(few, DamageKind.BIT_FLIP, case.last[few], case.starts[case.last[few]])


def tears(case: Case) -> None:
    """Explain the rows of writes of which only one part arrived.

    If a whole write does not look torn, its unexplained rows are tried one by one. Raises
    TraceError.
    """
    rows, lost = case.rows, case.are(DamageKind.LOST_WRITE)
    for j in map(int, np.unique(case.last[(lost | case.open) & (case.last >= 0)])):
        own = np.arange(case.first[j], case.stop[j])
        own = own[(case.last[own] == j) & (lost[own] | case.open[own])]
        start, end = case.extent(j)
        if lost[own].all() and (rows.end[own] - rows.start[own]).sum() == end - start:
            continue  # the whole write is lost
        write = _write(case, j, start, end)
        if _tear(case, j, own, write, start, end):
            continue
        for row in own[case.open[own]]:
            first, last = max(start, int(rows.start[row])), min(end, int(rows.end[row]))
            _tear(case, j, own[own == row], write, first, last)


@dataclass(frozen=True, slots=True)
class _Write:
    """The bytes of an op's range before it, by it and now."""

    start: int
    """The byte on the disk at which the range begins."""
    new: Octets
    """What the op wrote."""
    old: tuple[Octets, Octets]
    """What was there before: if trims made zeroes, and if trims did nothing."""
    now: Octets
    """What is there now."""
    seen: Flags
    """Where no later op changed anything."""


def _write(case: Case, j: int, start: int, end: int) -> _Write:
    rows, versions = case.rows, case.versions
    with_trims, without = (versions.content(start, end, j, trims) for trims in (True, False))
    now = bytearray(versions.content(start, end))
    for row in range(int(case.first[j]), int(case.stop[j])):
        first, last = max(start, int(rows.start[row])), min(end, int(rows.end[row]))
        if first < last:
            at = rows.first_byte(row)
            now[first - start : last - start] = rows.actual[row, first - at : last - at].tobytes()
    seen = np.ones(end - start, bool)
    for first, last in versions.later(j, start, end):
        seen[first - start : last - start] = False
    new, before, kept, current = (
        np.frombuffer(data, np.uint8)
        for data in (versions.data(j, start, end), with_trims, without, now)
    )
    return _Write(start, new, (before, kept), current, seen)


def _tear(case: Case, j: int, own: Ints, write: _Write, start: int, end: int) -> bool:
    """Explain the rows ``own`` as torn if op ``j`` has one boundary in ``[start, end)``.

    Return whether it has.
    """
    part = slice(start - write.start, end - write.start)
    for old in write.old:
        found = patterns.tear(
            write.new[part], old[part], write.now[part], write.seen[part], start
        )  # fmt: skip
        if found is not None:
            boundary, room, first_part = found
            case.explain(own, DamageKind.TORN, j, 0, len(case.torn))
            case.torn.append(
                Detail(
                    boundary=boundary,
                    into_op=boundary - int(case.versions.start[j]),
                    power_of_two=patterns.power_of_two(boundary),
                    arrived="first" if first_part else "last",
                    room=room if room > SECTOR else None,
                )
            )
            return True
    return False


def shifts(case: Case) -> None:
    """Explain the rows that hold data moved by some bytes: data written nearby, or the culprit's.

    Raises TraceError.
    """
    for first, stop in case.rows.runs(case.open):
        while case.open[first:stop].any() and _shift(case, first, stop):
            pass


@dataclass(frozen=True, slots=True)
class _Text:
    """Bytes that may have been moved."""

    data: bytes
    offset: int
    """The byte on the disk at which they belong."""
    writers: list[tuple[int, int, int]]
    """The ops that wrote them, as ``Versions.writers`` returns them."""


def _shift(case: Case, first: int, stop: int) -> bool:
    """Explain rows of a range by the distance that explains the most; return whether any were."""
    rows, place = case.rows, case.rows.first_byte(first)
    actual, expected = rows.actual[first:stop], rows.expected[first:stop]
    best: tuple[int, int, Ints, _Text] | None = None
    for text in _texts(case, first, stop):
        for by in patterns.moved_by(actual, expected, place, text.data, text.offset)[
            :MAX_DISTANCES
        ]:
            at = patterns.moved(actual, expected, place, text.data, text.offset, by)
            # ``elsewhere`` has looked up whole sectors moved by whole sectors already
            at[~case.open[first:stop] | _looked_up(case, first, stop, by)] = -1
            count = int((at >= 0).sum())
            if count > (best[0] if best else 0):
                best = count, by, at, text
    if best is None:
        return False
    _, by, at, text = best
    hit = np.flatnonzero(at >= 0)
    begins, _, ops = np.array(text.writers).T
    op = ops[np.searchsorted(begins, place + hit * SECTOR + at[hit] - by, "right") - 1]
    hit, op = hit[op >= 0], op[op >= 0]
    damage = DamageKind.SHIFTED if by % SECTOR else DamageKind.MISDIRECTED
    case.explain(hit + first, damage, op, case.starts[op] + by, by if by % SECTOR else -1)
    return len(hit) > 0


def _texts(case: Case, first: int, stop: int) -> list[_Text]:
    """Return what should be in and around some rows, and what the culprit wrote."""
    versions = case.versions
    start = max(0, case.rows.first_byte(first) - NEAR)
    end = min(case.size, int(case.rows.end[stop - 1]) + NEAR)
    texts = [_Text(versions.content(start, end), start, versions.writers(start, end))]
    for j in map(int, np.flatnonzero(versions.position == case.culprit)):
        if not versions.empty[j]:
            a, b = int(versions.start[j]), int(versions.end[j])
            texts.append(_Text(versions.data(j, a, b), a, [(a, b, j)]))
    return texts


def _looked_up(case: Case, first: int, stop: int, by: int) -> Flags:
    """Return the rows that ``elsewhere`` has looked up with this distance."""
    whole: Flags = case.rows.whole[first:stop]
    return whole & (by % SECTOR == 0)
