"""Watch damaged sectors while the trace is played, to see after which op they go wrong.

The culprit is the last write of a damaged sector, or a later op, up to the op that showed the
damage. No op in this window after that write changes the sector, so the sector goes wrong once. A
run that reads it after each op of the window finds the culprit, on the live driver.
"""

from collections.abc import Callable
from itertools import islice

from replay.options import Order
from replay.player import Probe, Watched
from replay.runner import Checks, Run, Runner
from replay.schedule import schedule
from replay.symptom import Symptom
from tracer.op import MUTATING, SECTOR, sectors
from tracer.ranges import RangeSet

MAX_TARGETS = 64
"""The most sectors watched: the sectors that may have gone wrong earliest. The others can only hide
an earlier culprit, which confirmation would find."""

MAX_RANGES = 10_000
"""The most damaged ranges considered."""

MAX_LOOKS = 500_000
"""The most sector reads in one run: about 20 s. If the window is long, fewer sectors are watched,
down to one. Any damaged sector leads to an op that did damage, and confirmation leads to an earlier
op if there is one."""


def watch(
    runner: Runner, symptom: Symptom, *, order: Order, label: str, say: Callable[[str], None]
) -> int | None:
    """Return the position of the op after which a damaged sector first reads wrong on the live
    driver, or None if watching does not show it."""
    if symptom.targets is None:
        return None
    watched = bracket(runner, symptom.targets, symptom.within)
    watched.sort(key=lambda sector: sector.after)  # the ones that may have gone wrong first
    first, last = max(watched[0].after, runner.first), symptom.within
    del watched[min(MAX_TARGETS, max(1, MAX_LOOKS // max(1, last - first))) :]
    what = "one damaged sector" if len(watched) == 1 else f"{len(watched)} damaged sectors"
    say(f"watching {what} through ops {first} to {last}")
    probe = Probe(tuple(watched), range(first, last + 1))
    outcome = runner.run(Run(label, order, symptom.within, probe=probe, checks=Checks.NONE))
    return max(outcome.wrong_at - 1, runner.first) if outcome.wrong_at is not None else None


def bracket(runner: Runner, targets: RangeSet, within: int) -> list[Watched]:
    """Return the sectors to watch: the first and the last of each damaged range.

    Each is watched from its last write within the first ``within`` ops on. Before that write it may
    be wrong for a reason that no longer matters.
    """
    last_write: dict[int, int] = {}
    for start, end in islice(targets, MAX_RANGES):
        damaged_sectors = sectors(start, end)
        last_write[damaged_sectors[0]] = last_write[damaged_sectors[-1]] = 0
    damaged = RangeSet((sector * SECTOR, (sector + 1) * SECTOR) for sector in last_write)
    for position, step in enumerate(islice(schedule(runner.source.trace.ops()), within)):
        op = step.op
        if op.kind in MUTATING and not op.reference_status:
            for start, end in damaged.within(op.offset, op.end):
                for sector in sectors(start, end):
                    last_write[sector] = position + 1
    size = runner.source.trace.header.size
    return [
        Watched(sector * SECTOR, min((sector + 1) * SECTOR, size), after)
        for sector, after in sorted(last_write.items())
    ]
