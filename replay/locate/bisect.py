"""Bisect prefixes of a trace, for faults that cannot be watched on the live driver.

A step that starts from the saved images of the last clean prefix plays only the ops after it, so
the whole search sends about as many ops as the trace has. A fault that depends on what the driver
had in memory before the restart does not show that way. Whole prefixes show it, but cost a pass
over the trace every few steps.
"""

from collections.abc import Callable
from itertools import islice

from replay.locate.repeat import TRIES, until_bad
from replay.options import Order
from replay.outcome import Saved
from replay.runner import Run, Runner
from replay.schedule import is_quiet, schedule

LABEL = "bisect"


def bisect(
    runner: Runner,
    good: int,
    bad: int,
    *,
    order: Order,
    tries: int,
    restart: bool,
    say: Callable[[str], None],
) -> int | None:
    """Find two neighbouring prefixes, a clean one and a wrong one; return the position of the op
    between them.

    The first ``good`` ops are known to be clean, the first ``bad`` ops to be wrong. A prefix is
    clean if ``tries`` runs of it are clean. With ``restart``, steps start from saved images.
    Returns None if the longer prefix is clean this time.
    """
    start: Saved | None = None
    quiet = _quiet(runner, bad)
    if restart and good > runner.first:
        say(f"playing the first {good} ops once")
        outcome = runner.run(Run(LABEL, order, good, save=bool(quiet[good])))
        start = outcome.saved
        if not outcome.clean:
            good, bad = 0, good
    elif not restart and until_bad(runner, Run(LABEL, order, bad), max(tries, TRIES))[0].clean:
        return None
    while bad - good > 1:
        middle = _middle(quiet, good, bad) if restart else (good + bad) // 2
        say(f"trying the first {middle} ops" + (f", from #{start.position} on" if start else ""))
        save = restart and bool(quiet[middle])
        outcome, _ = until_bad(runner, Run(LABEL, order, middle, start=start, save=save), tries)
        if outcome.clean:
            good, start = middle, outcome.saved or start
        else:
            bad = middle
    return bad - 1


def _quiet(runner: Runner, count: int) -> bytearray:
    """Return, for each position up to ``count``, whether nothing was in flight there. A restart
    anywhere else would separate ops that were in flight together, and the fault may need them."""
    quiet = bytearray(count + 1)
    for position, step in enumerate(islice(schedule(runner.source.trace.ops()), count + 1)):
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
