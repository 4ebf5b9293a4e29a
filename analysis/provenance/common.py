"""What all damage of one cause has in common, and hardly by chance.

A fact about ops is judged against all ops of the same kinds in the trace: if every write begins at
a multiple of 64 KiB, this says nothing about the writes that were lost. A fact about a place is
judged against all places where it might be, at the grain of a sector.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd, prod

import numpy as np

from analysis.provenance.changes import Changes, Ints
from analysis.provenance.rows import Flags
from tracer.op import SECTOR, Flag
from tracer.text import size
from tracer.verdict import DamageKind, Finding

CHANCE = 1e-3
"""The probability above which chance may explain what ops have in common. About five facts are
tried, so about one cause in 200 gets a fact that means nothing."""


@dataclass(frozen=True, slots=True)
class _Fact:
    """What some ops may have in common, and for which ops of a trace it holds."""

    words: str
    holds: Flags


def of_ops(ranges: Sequence[Finding], seqs: Sequence[int], changes: Changes) -> list[str]:
    """Return what several ops and the damaged ranges of their data have in common, as phrases."""
    rows = np.flatnonzero(np.isin(changes.seq, seqs))
    pool = _same_kinds(rows, changes)
    found = _of_damage(ranges, changes)
    # the most specific fact first; a fact that follows from it is then no surprise
    torn = ranges[0].kind is DamageKind.TORN
    for fact in sorted(
        _facts(rows, changes, crossed=not torn), key=lambda fact: int((fact.holds & pool).sum())
    ):
        narrowed = pool & fact.holds
        if _chance(int(narrowed.sum()), int(pool.sum()), len(rows)) <= CHANCE:
            found.append(fact.words)
            pool = narrowed
    return found


def are_all(seqs: Sequence[int], changes: Changes) -> bool:
    """Return whether these ops are all that the trace has of their kinds."""
    rows = np.flatnonzero(np.isin(changes.seq, seqs))
    return int(_same_kinds(rows, changes).sum()) == len(rows)


def of_ranges(ranges: Sequence[Finding], changes: Changes) -> list[str]:
    """Return what several damaged ranges have in common, as phrases."""
    place = _place(np.array([found.start for found in ranges]))
    if place is None:
        return []
    words, step, rest = place
    # ops may be aligned in the whole trace
    share = max(SECTOR / step, float((changes.offset % step == rest).mean()))
    return [words] if share ** (len(ranges) - 1) <= CHANCE else []


def _same_kinds(rows: Ints, changes: Changes) -> Flags:
    """Return which ops of the trace have the kind of any of those in ``rows``."""
    found: Flags = np.isin(changes.kind, np.unique(changes.kind[rows]))
    return found


def _chance(holding: int, total: int, count: int) -> float:
    """Return the probability that a fact which holds for ``holding`` of ``total`` ops holds for
    ``count`` ops drawn at random."""
    return prod((holding - drawn) / (total - drawn) for drawn in range(count))


def _facts(rows: Ints, changes: Changes, crossed: bool) -> Iterator[_Fact]:
    """Yield what the ops in some rows have in common; with ``crossed``, what they cross too."""
    starts, lengths = changes.offset[rows], changes.length[rows]
    if (starts == starts[0]).all():
        yield _Fact(f"each at byte {starts[0]}", changes.offset == starts[0])
    elif (place := _place(starts)) is not None:
        words, step, rest = place
        yield _Fact(words, changes.offset % step == rest)
    if (lengths == lengths[0]).all():
        yield _Fact(f"each of {size(int(lengths[0]))}", changes.length == lengths[0])
    # the highest bit that changes within an op is the largest power of two that it crosses
    inside = changes.offset ^ (changes.offset + changes.length - 1)
    least = int(inside[rows].min())
    if crossed and least >= SECTOR:
        step = 1 << least.bit_length() - 1
        yield _Fact(f"each across a multiple of {size(step)}", inside >= step)
    for flag in Flag:
        if (changes.flags[rows] & flag).all():
            yield _Fact(f"each with {flag.name}", (changes.flags & flag) != 0)


def _place(starts: Ints) -> tuple[str, int, int] | None:
    """Return how places lie on a grid, as a phrase, the grid's step and the rest; None if they lie
    on no grid that is coarser than a sector."""
    apart = gcd(*(int(start - starts[0]) for start in starts))
    step = apart & -apart
    if step <= SECTOR:
        return None
    rest = int(starts[0]) % step
    if not rest:
        return f"each at a multiple of {size(step)}", step, rest
    return f"each {size(rest)} after a multiple of {size(step)}", step, rest


def _of_damage(ranges: Sequence[Finding], changes: Changes) -> list[str]:
    """Return what the damage itself has in common."""
    match ranges[0].kind:
        case DamageKind.TORN:
            return _of_tears(ranges)
        case DamageKind.MISDIRECTED:
            return _of_distances(ranges, changes)
        case DamageKind.BIT_FLIP:
            return _of_masks(ranges)
    return []


def _of_tears(ranges: Sequence[Finding]) -> list[str]:
    """Return where all writes are torn: at which multiples, or after how many bytes."""
    tears = {(tear.seq, tear.boundary): tear for tear in map(_tear, ranges)}.values()
    step = min(tear.boundary & -tear.boundary for tear in tears)
    into = {tear.into for tear in tears}
    at_a_multiple = prod(tear.chance(step) for tear in tears)
    # where the first write is torn is no surprise, only that the others are torn there too
    after_as_many = prod(tear.chance() for tear in list(tears)[1:]) if len(into) == 1 else 1
    if min(at_a_multiple, after_as_many) > CHANCE:
        return []
    if after_as_many < at_a_multiple:
        return [f"each torn after its first {size(into.pop())}"]
    return [f"each torn at a multiple of {size(step)}"]


@dataclass(frozen=True, slots=True)
class _Tear:
    """Where a write is torn. All numbers are bytes."""

    seq: int
    start: int
    end: int
    boundary: int
    into: int
    room: int

    def chance(self, step: int | None = None) -> float:
        """Return the probability that a write torn between any two of its sectors may be torn at a
        multiple of ``step``; None: at one certain place."""
        places = self._multiples(SECTOR)
        wanted = 1 if step is None else self._multiples(step)
        return min(1.0, wanted * max(1, self.room // SECTOR) / max(1, places))

    def _multiples(self, step: int) -> int:
        return (self.end - 1) // step - self.start // step


def _tear(found: Finding) -> _Tear:
    op, detail = found.source, found.detail
    assert op is not None
    assert detail is not None
    assert detail.boundary is not None
    assert detail.into_op is not None
    return _Tear(
        op.seq, op.offset, op.offset + op.length, detail.boundary, detail.into_op, detail.room or 0
    )


def _of_distances(ranges: Sequence[Finding], changes: Changes) -> list[str]:
    """Return a number that divides all distances between where data is and where it belongs."""
    distances = {
        found.sector - found.detail.meant_for // SECTOR
        for found in ranges
        if found.detail is not None and found.detail.meant_for is not None
    }
    if len(distances) < 2:
        return []
    apart = gcd(*distances) * SECTOR
    step = apart & -apart
    # ops may be aligned in the whole trace
    share = max(SECTOR / step, float((changes.offset % step == 0).mean()))
    if share ** len(distances) > CHANCE:
        return []
    return [f"each by a multiple of {size(step)}"]


def _of_masks(ranges: Sequence[Finding]) -> list[str]:
    """Return the bits that are wrong in every wrong byte."""
    first = [flip for found in ranges if found.detail for flip in found.detail.first or []]
    masks = {mask for _, mask in first}
    # one bit of eight; several bits at a time are rarer still
    if len(masks) != 1 or 8.0 ** (1 - len(first)) > CHANCE:
        return []
    return [f"each with the mask {masks.pop():#04x}"]
