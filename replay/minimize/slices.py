"""Slices: parts of a trace that are likely to show the fault, to be tried before anything else.

Most faults need a few ops on the clusters that they damage. A slice that shows the fault saves
passes over the trace; one that does not costs little.
"""

from collections.abc import Iterator

from replay.minimize.part import Part
from tracer.op import MUTATING, Kind
from tracer.ranges import RangeSet
from tracer.trace.order import by_seq

LAST = (4, 32, 256)
"""The last so many ops."""

AROUND = (1, 4 << 10, 64 << 10, 2 << 20)
"""Bytes around the damage, as aligned pieces: the clusters of most formats are of these sizes."""

SHARE = 0.5
"""The most that all slices together may have, as a share of the part: half a pass."""


def slices(part: Part, focus: RangeSet) -> Iterator[Part]:
    """Yield slices of a part, smallest first. Each has its last op.

    ``focus`` has the byte ranges of what is known of the fault: the damage, and the culprit's.
    Raises TraceError.
    """
    kept = list(part.kept)
    found: dict[tuple[int, ...], None] = {tuple(kept[-last:]): None for last in LAST}
    for chosen in _near(part, focus):
        found[tuple(chosen)] = None
    spent = 0
    for one in sorted(found, key=len):
        spent += len(one)
        if len(one) == len(kept) or spent > SHARE * len(kept):
            return
        yield Part(part.index, one)


def _near(part: Part, focus: RangeSet) -> Iterator[list[int]]:
    """Yield the ops near the focus: first those that change data, then with flushes, then all."""
    areas = [focus.aligned(unit) for unit in AROUND]
    changing: list[list[int]] = [[] for _ in areas]
    flushed: list[list[int]] = [[] for _ in areas]
    every: list[list[int]] = [[] for _ in areas]
    last = part.kept[-1]
    wanted = iter(part.kept)
    due = next(wanted, None)
    trace = part.index.trace
    for position, op in enumerate(by_seq(trace.ops(), trace.recorded)):
        if due is None:
            break
        if position != due:
            continue
        due = next(wanted, None)
        flush = op.kind == Kind.FLUSH
        for at, area in enumerate(areas):
            near = flush or area.overlaps(op.offset, op.end) or position == last
            if not near:
                continue
            every[at].append(position)
            if flush or op.kind in MUTATING or position == last:
                flushed[at].append(position)
                if not flush or position == last:
                    changing[at].append(position)
    for group in (changing, flushed, every):
        yield from group
