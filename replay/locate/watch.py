"""Watch damaged sectors while the trace is played, to see after which op they go wrong.

In its bracket (bracket.py) a sector goes wrong once. A run that reads it after each op of the
bracket finds the culprit, on the live driver.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from replay.locate.bisect import quiet_positions
from replay.locate.trial import Lab, Trial
from replay.outcome import Stage
from replay.player import Probe, Watched
from replay.run import Run
from tracer.errors import DriverHung

MAX_TARGETS = 64
"""The most sectors watched: the sectors that may have gone wrong earliest. The others can only hide
an earlier culprit, which confirmation would find."""

MAX_LOOKS = 500_000
"""The most sector reads in one run: about 20 s. If the window is long, fewer sectors are watched,
down to one. Any damaged sector leads to an op that did damage, and confirmation leads to an earlier
op if there is one."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A sector that went wrong while the ops from position ``first`` to ``last`` were done."""

    start: int
    """The sector's first byte."""
    first: int
    last: int


def watch(
    lab: Lab,
    trial: Trial,
    watched: list[Watched],
    within: int,
    *,
    label: str,
    quiet: bool = False,
) -> list[Seen]:
    """Return what watching shows on the live driver, in the order of ops.

    A watched run lets all ops finish before it looks. With ``quiet``, it looks only where the
    recording had nothing in flight, and so separates no ops.
    """
    watched = sorted(watched, key=lambda sector: sector.after)  # what may have gone wrong first
    first = max(watched[0].after, lab.runner.first)
    positions: Sequence[int] = range(first, within + 1)
    if quiet:
        flags = quiet_positions(lab.runner, within)
        positions = [place for place in positions if flags[place] or place == within]
    del watched[min(MAX_TARGETS, max(1, MAX_LOOKS // len(positions))) :]
    what = "one damaged sector" if len(watched) == 1 else f"{len(watched)} damaged sectors"
    lab.say(f"watching {what} through ops {first} to {within}")
    lab.check_time()
    run = Run(
        label, trial.order, within,
        start=trial.start, probe=Probe(tuple(watched), positions), last=Stage.PLAYED,
        deadline=lab.deadline,
    )  # fmt: skip
    try:
        outcome = lab.runner.run(run)
    except DriverHung as error:
        lab.say(f"watching ended: {error}")
        return []
    floor = lab.runner.first
    before = dict(zip(positions[1:], positions, strict=False))
    found = [
        Seen(start, before.get(done, max(done - 1, floor)), max(done - 1, floor))
        for done, start in outcome.wrong
    ]
    for position in {seen.last for seen in found}:
        lab.followed[position] += 1
    return found
