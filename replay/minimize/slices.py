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
    kept, most = part.kept, int(SHARE * len(part.kept))
    found = [list(kept[-last:]) for last in LAST] + _near(part, focus, most)
    spent = 0
    seen: set[int] = set()
    for one in sorted(found, key=len):
        spent += len(one)
        if len(one) == len(kept) or spent > most:
            return
        # of the slices of one length, most often all are the same ops
        if len(one) not in seen:
            seen.add(len(one))
            yield Part(part.index, one)


class _Slice:
    """Ops that are gathered, as long as they are no more than ``most``."""

    def __init__(self, most: int) -> None:
        self._room = most
        self.ops: list[int] = []

    def add(self, position: int) -> None:
        if len(self.ops) < self._room:
            self.ops.append(position)
        else:
            self._room, self.ops = 0, []


def _near(part: Part, focus: RangeSet, most: int) -> list[list[int]]:
    """Return the ops near the focus: those that change data, those with flushes, and all. What has
    more than ``most`` ops is left out."""
    areas = [focus.aligned(unit) for unit in AROUND]
    changing, flushed, every = ([_Slice(most) for _ in areas] for _ in range(3))
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
            if not (flush or position == last or area.overlaps(op.offset, op.end)):
                continue
            every[at].add(position)
            if flush or op.kind in MUTATING or position == last:
                flushed[at].add(position)
                if not flush or position == last:
                    changing[at].add(position)
    return [one.ops for group in (changing, flushed, every) for one in group if one.ops]
