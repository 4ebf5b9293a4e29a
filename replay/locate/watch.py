"""Watch damaged sectors while the trace is played, to see after which op they go wrong.

In its bracket (bracket.py) a sector goes wrong once. A run that reads it after each op of the
bracket finds the culprit, on the live driver.
"""

from replay.locate.trial import Lab, Trial
from replay.outcome import Stage
from replay.player import Probe, Watched
from replay.run import Run

MAX_TARGETS = 64
"""The most sectors watched: the sectors that may have gone wrong earliest. The others can only hide
an earlier culprit, which confirmation would find."""

MAX_LOOKS = 500_000
"""The most sector reads in one run: about 20 s. If the window is long, fewer sectors are watched,
down to one. Any damaged sector leads to an op that did damage, and confirmation leads to an earlier
op if there is one."""


def watch(
    lab: Lab, trial: Trial, watched: list[Watched], within: int, *, label: str
) -> list[tuple[int, int]]:
    """Return what watching shows on the live driver, in the order of ops: the position of the op
    after which a sector first reads wrong, and the sector's first byte."""
    watched = sorted(watched, key=lambda sector: sector.after)  # what may have gone wrong first
    first = max(watched[0].after, lab.runner.first)
    del watched[min(MAX_TARGETS, max(1, MAX_LOOKS // max(1, within - first))) :]
    what = "one damaged sector" if len(watched) == 1 else f"{len(watched)} damaged sectors"
    lab.say(f"watching {what} through ops {first} to {within}")
    lab.check_time()
    probe = Probe(tuple(watched), range(first, within + 1))
    outcome = lab.runner.run(
        Run(
            label, trial.order, within,
            start=trial.start, probe=probe, last=Stage.PLAYED, deadline=lab.deadline,
        )
    )  # fmt: skip
    found = [(max(done - 1, lab.runner.first), start) for done, start in outcome.wrong]
    for position in {position for position, _ in found}:
        lab.followed[position] += 1
    return found
