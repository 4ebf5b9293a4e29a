"""Bisect prefixes of a trace: for faults that cannot be watched on the live driver.

A step that starts from the saved images of the last clean prefix plays only what follows it, so
that the whole search takes no more ops than the trace has. What depends on the driver's memory from
before the restart does not show that way; whole prefixes show it, at the cost of a pass for every
few steps.
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
    """The position of an op such that the prefix without it is clean, in ``tries`` runs, and the
    prefix with it is not; the first ``good`` ops are known to be clean, the first ``bad`` not to
    be. With ``restart``, steps start from saved images. None where the whole is clean this time."""
    start: Saved | None = None
    quiet = _quiet(runner, bad)
    if restart and good:
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
    """For each of the first ``count`` positions whether nothing was in flight there: a restart
    where ops were would part what was together, and the fault may need that."""
    quiet = bytearray(count + 1)
    for position, step in enumerate(islice(schedule(runner.source.trace.ops()), count + 1)):
        quiet[position] = is_quiet(step, position)
    return quiet


def _middle(quiet: bytearray, good: int, bad: int) -> int:
    """Where to cut: the quiet place nearest to the middle, unless that is far off."""
    middle = (good + bad) // 2
    for distance in range((bad - good) // 4 + 1):
        for place in (middle - distance, middle + distance):
            if good < place < bad and quiet[place]:
                return place
    return middle
