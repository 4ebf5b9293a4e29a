"""Bracket the culprit, without a replay: when was a damaged sector last known to be right?

That was when it was last written, or when a read last returned it right. The culprit is that op or
a later one, up to the op that showed the damage.
"""

from collections.abc import Collection
from itertools import islice

from replay.player import Watched
from replay.runner import Runner
from replay.schedule import schedule
from tracer.op import MUTATING, SECTOR, Kind, sectors
from tracer.ranges import RangeSet

MAX_RANGES = 10_000
"""The most damaged ranges considered."""


def bracket(
    runner: Runner, damage: RangeSet, within: int, *, wrong_reads: Collection[int] | None = None
) -> list[Watched]:
    """Return the sectors to look at: the first and the last of each damaged range.

    ``after`` is how many ops were done when the sector was last known to be right: before that it
    may be wrong for a reason that no longer matters. ``wrong_reads`` are the positions of reads
    that returned wrong data. None: reads prove nothing.
    """
    right: dict[int, int] = {}
    for start, end in islice(damage, MAX_RANGES):
        damaged = sectors(start, end)
        right[damaged[0]] = right[damaged[-1]] = 0
    edges = RangeSet((sector * SECTOR, (sector + 1) * SECTOR) for sector in right)
    for position, step in enumerate(
        islice(schedule(runner.source.trace.ops(), runner.source.trace.recorded), within)
    ):
        op = step.op
        if op.reference_status:
            continue
        proves = op.kind in MUTATING or (
            op.kind == Kind.READ and wrong_reads is not None and position not in wrong_reads
        )
        for start, end in edges.within(op.offset, op.end) if proves else ():
            for sector in sectors(start, end):
                right[sector] = position + 1
    size = runner.source.trace.header.size
    return [
        Watched(sector * SECTOR, min((sector + 1) * SECTOR, size), after)
        for sector, after in sorted(right.items())
    ]


def last_right(runner: Runner, watched: list[Watched]) -> int:
    """Return how many ops at the front are innocent of the damage to these sectors."""
    return max(runner.first, min((sector.after for sector in watched), default=0) - 1)
