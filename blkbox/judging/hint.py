"""What to try if a trace was recorded as bad on a driver and replays clean on it."""

from replay.options import ReplayOptions
from replay.schedule import is_quiet, schedule
from replay.start import Start, alternatives
from tracer.op import Kind
from tracer.trace.file import Trace
from tracer.verdict import BAD

RUNS = 8
"""How many runs to try. Every other run sends ops that were in flight together in another order."""


def hint(trace: Trace, options: ReplayOptions, start: Start) -> str | None:
    """Return a sentence for people about a clean replay. Return None if the recording was clean
    too, was made on another driver, or was not replayed to its end.

    The driver's name in the header is only compared and shown. Raises TraceError if the trace is
    damaged.
    """
    end, name = trace.end, options.driver.name
    if end is None or end.verdict not in BAD or options.upto is not None:
        return None
    if trace.header.driver.get("name") != name:
        return None
    tries = _tries(trace, options, start)
    text = f"the trace was recorded as {end.verdict} on {name}"
    return f"{text}: try {', or '.join(tries)}" if tries else text


def _tries(trace: Trace, options: ReplayOptions, start: Start) -> list[str]:
    """Return the options to try, the most promising first."""
    found = []
    if start.how is not None:
        others = [how for how in alternatives(options.driver) if how is not start.how]
        found += [f"--start {how}" for how in others[:1]]
    if options.order.depth is not None:
        found.append("--depth recorded")
    if options.runs < RUNS and (not found or _concurrent(trace)):
        found.append(f"--runs {RUNS}")
    return found


def _concurrent(trace: Trace) -> bool:
    """Whether any ops of the guest were in flight together. Reads up to the first of them."""
    return any(
        step.op.kind != Kind.START and not is_quiet(step, position)
        for position, step in enumerate(schedule(trace.ops(), trace.recorded))
    )
