"""What to try if a trace was recorded as bad on a driver and replays clean on it."""

from replay.options import ReplayOptions
from replay.schedule import is_quiet, schedule
from replay.start import Start, alternatives
from tracer.trace.file import Trace
from tracer.verdict import StartKind, VerdictKind

RUNS = 8
"""How many runs to try. Every other run sends ops that were in flight together in another order."""

_BAD = (VerdictKind.DAMAGED, VerdictKind.FAILED)


def hint(trace: Trace, options: ReplayOptions, start: Start) -> str | None:
    """Return a sentence for people about a clean replay, or None if the recording was clean too, or
    was made on another driver, or was not replayed to its end.

    What the header says about the driver is for information only: here, too. Raises TraceError if
    the trace is damaged.
    """
    end, name = trace.end, options.driver.name
    if end is None or end.verdict not in _BAD or options.upto is not None:
        return None
    if trace.header.driver.get("name") != name:
        return None
    tries = ", or ".join(_tries(trace, options, start))
    return f"the trace was recorded as {end.verdict} on {name}" + (
        f": try {tries}" if tries else ""
    )


def _tries(trace: Trace, options: ReplayOptions, start: Start) -> list[str]:
    """Return the options to try, the most promising first."""
    found = []
    if start.how is not None:
        # written last: it is the farthest from what the recording did
        others = [how for how in alternatives(options.driver) if how is not start.how]
        found += [f"--start {how}" for how in others[:1] if how is not StartKind.WRITTEN]
    if options.order.depth is not None:
        found.append("--depth recorded")
    if options.runs < RUNS and _concurrent(trace):
        found.append(f"--runs {RUNS}")
    return found


def _concurrent(trace: Trace) -> bool:
    """Whether any ops were in flight together. Reads up to the first of them."""
    return not all(is_quiet(step, at) for at, step in enumerate(schedule(trace.ops())))
