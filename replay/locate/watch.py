"""Watch damaged sectors while the trace is played, to see after which op they go wrong.

A damaged sector was right when it was last written, so the culprit lies after that and no later
than where the damage was seen; within that window nothing writes the sector, so "is it wrong yet"
changes once. A run that looks after each op of the window finds where, on the live driver.
"""

from collections.abc import Callable
from itertools import islice

from replay.options import Order
from replay.player import Probe, Watched
from replay.runner import Checks, Run, Runner
from replay.schedule import schedule
from replay.symptom import Symptom
from tracer.op import MUTATING, SECTOR
from tracer.ranges import RangeSet

MAX_TARGETS = 64
"""Sectors that are watched: the ones that may have gone wrong earliest. Those left out can only
hide an earlier culprit, which confirmation would find."""

MAX_RANGES = 10_000
"""Damaged ranges that are thought of at all."""

MAX_LOOKS = 500_000
"""Sectors looked at in one run, all looks together: some 20 s. Where the window is long, fewer are
watched, down to one. Any of them leads to an op that does damage, and confirmation leads on to an
earlier one."""


def watch(
    runner: Runner, symptom: Symptom, *, order: Order, label: str, say: Callable[[str], None]
) -> int | None:
    """The position of the op after which a damaged sector first reads wrong on the live driver;
    None where that cannot be seen."""
    if symptom.targets is None:
        return None
    watched = bracket(runner, symptom.targets, symptom.within)
    watched.sort(key=lambda one: one.after)  # those that may have gone wrong earliest
    first, last = watched[0].after, symptom.within
    del watched[min(MAX_TARGETS, max(1, MAX_LOOKS // max(1, last - first))) :]
    what = "one damaged sector" if len(watched) == 1 else f"{len(watched)} damaged sectors"
    say(f"watching {what} through ops {first} to {last}")
    probe = Probe(tuple(watched), range(first, last + 1))
    outcome = runner.run(Run(label, order, symptom.within, probe=probe, checks=Checks.NONE))
    return max(outcome.wrong_at - 1, 0) if outcome.wrong_at is not None else None


def bracket(runner: Runner, targets: RangeSet, within: int) -> list[Watched]:
    """Sectors to watch, each from the op on after which nothing writes it before ``within``: until
    then it may be wrong for reasons that no longer matter."""
    sectors: dict[int, int] = {}
    for start, end in islice(targets, MAX_RANGES):
        sectors[start // SECTOR] = 0
        sectors[(end - 1) // SECTOR] = 0
    damaged = RangeSet((sector * SECTOR, (sector + 1) * SECTOR) for sector in sectors)
    for position, step in enumerate(islice(schedule(runner.source.trace.ops()), within)):
        op = step.op
        if op.kind in MUTATING and not op.reference_status:
            for start, end in damaged.within(op.offset, op.end):
                for sector in range(start // SECTOR, -(-end // SECTOR)):
                    sectors[sector] = position + 1
    size = runner.source.trace.header.size
    return [
        Watched(sector * SECTOR, min((sector + 1) * SECTOR, size), after)
        for sector, after in sorted(sectors.items())
    ]
