"""Bisect prefixes of a trace, for faults that cannot be watched on the live driver.

A step that starts from the saved images of the last clean prefix plays only the ops after it, so
the whole search sends about as many ops as the trace has. A fault that depends on what the driver
had in memory before the restart does not show that way. Whole prefixes show it, but cost a pass
over the trace every few steps.
"""

from dataclasses import dataclass, replace
from itertools import islice

from replay.locate.trial import TRIES, Lab, Trial
from replay.outcome import Saved
from replay.runner import Runner
from replay.schedule import is_quiet, schedule
from tracer.text import ops

LABEL = "bisect"

WARM_UP = 256
"""Ops that are played again after a restart, before the ops in question: a driver that must load
its metadata first may not show a fault that depends on timing."""

WORTH_SAVING = 64
"""Ops. If fewer are left to search, it is cheaper to play them again than to copy images."""


def save_base(lab: Lab, trial: Trial, good: int) -> Saved | None:
    """Play nearly the first ``good`` ops once and save the images. None if that is not possible or
    not worth it, or if those ops show the sign already."""
    quiet = quiet_positions(lab.runner, good)
    last = good - WARM_UP
    place = next((place for place in range(last, lab.runner.first, -1) if quiet[place]), 0)
    if not place or not lab.runner.can_save:
        return None
    key = place, trial.flush
    if key not in lab.bases:
        lab.say(f"playing the first {ops(place)} once")
        label = f"base-{place}" + ("" if trial.flush else "-unflushed")
        outcome, _ = lab.run(replace(trial, start=None), label, place, save=True)
        lab.bases[key] = outcome.saved
    return lab.bases[key]


@dataclass(frozen=True, slots=True)
class Between:
    """Two neighbouring prefixes, one that does not show the sign and one that does."""

    position: int
    """The position of the op between them."""
    start: Saved | None
    """The saved images of the longest clean prefix."""
    clean: int
    """How many runs from these images of the prefix without the op were clean."""


def bisect(
    lab: Lab, trial: Trial, good: int, bad: int, *, tries: int, restart: bool
) -> Between | None:
    """Find two neighbouring prefixes, one that does not show the sign and one that does.

    The first ``good`` ops are known not to show it, the first ``bad`` ops to show it. A prefix is
    clean if ``tries`` runs of it are clean. With ``restart``, steps start from saved images.
    Returns None if the longer prefix does not show it this time.
    """
    start, clean = trial.start, 0
    quiet = quiet_positions(lab.runner, bad)
    if not restart and not lab.until_bad(trial, LABEL, bad, max(tries, TRIES))[1]:
        return None
    while bad - good > 1:
        middle = _middle(quiet, good, bad) if restart else (good + bad) // 2
        origin = f", from #{start.position} on" if start is not None else ""
        lab.say(f"trying the first {ops(middle)}{origin}")
        save = restart and bool(quiet[middle]) and bad - good > WORTH_SAVING
        outcome, wrong = lab.until_bad(replace(trial, start=start), LABEL, middle, tries, save=save)
        if wrong:
            bad = middle
        else:
            good, clean = middle, max(1, tries)
            if outcome.saved is not None:
                start, clean = outcome.saved, 0
    return Between(bad - 1, start, clean)


def quiet_positions(runner: Runner, count: int) -> bytearray:
    """Return, for each position up to ``count``, whether nothing was in flight there. A restart
    anywhere else would separate ops that were in flight together, and the fault may need them."""
    quiet = bytearray(count + 1)
    for position, step in enumerate(
        islice(schedule(runner.source.trace.ops(), runner.source.trace.recorded), count + 1)
    ):
        quiet[position] = is_quiet(step, position)
    return quiet


def _middle(quiet: bytearray, good: int, bad: int) -> int:
    """Return where to cut: the quiet position nearest to the middle, or the middle if none is
    near."""
    middle = (good + bad) // 2
    for distance in range((bad - good) // 4 + 1):
        for place in (middle - distance, middle + distance):
            if good < place < bad and quiet[place]:
                return place
    return middle
