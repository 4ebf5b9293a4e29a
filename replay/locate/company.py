"""Which other op must be in flight with the culprit for the fault to show."""

from dataclasses import replace
from itertools import islice

from replay.locate.odds import proven
from replay.locate.trial import TRIES, Lab, Trial
from replay.runner import Runner
from replay.schedule import Step, schedule
from tracer.op import Op

MAX_COMPANY = 8
"""The most ops that are tried, the ones sent last first. Each takes TRIES runs if it is the one."""


def in_flight_with(runner: Runner, position: int) -> list[tuple[int, Op]]:
    """Return the ops that the recording had in flight together with the op at ``position``, in the
    order of submission, and their positions."""
    steps: list[Step] = []
    for place, step in enumerate(schedule(runner.source.trace.ops(), runner.source.trace.recorded)):
        if place > position and step.after > steps[position].completion_index:
            break  # submitted after the op had completed, as were all later ones
        steps.append(step)
    if position >= len(steps):
        return []
    mine = steps[position]
    return [
        (place, step.op)
        for place, step in enumerate(steps)
        if place != position
        and step.completion_index >= mine.after
        and mine.completion_index >= step.after
    ]


def needs_company(lab: Lab, trial: Trial, position: int, bad: int, runs: int) -> bool | None:
    """Return whether the prefix that ends with the op at ``position`` is clean with one op in
    flight at a time. With others in flight, ``bad`` of its ``runs`` runs showed the sign. None if
    that cannot be told."""
    lab.say("trying one op at a time")
    return vanishes(lab, replace(trial, order=replace(trial.order, depth=1)), position, bad, runs)


def find_company(lab: Lab, trial: Trial, position: int, bad: int, runs: int) -> Op | None:
    """Return the op without which in flight the culprit does no harm. None if there is no single
    one."""
    earlier = [one for one in in_flight_with(lab.runner, position) if one[0] < position]
    for place, op in islice(reversed(earlier), MAX_COMPANY):
        lab.say(f"holding it back until {op.describe()} is done")
        apart = replace(trial, order=replace(trial.order, apart=frozenset({(place, position)})))
        if vanishes(lab, apart, position, bad, runs):
            return op
    return None


def vanishes(lab: Lab, trial: Trial, position: int, bad: int, runs: int) -> bool | None:
    """Return whether the symptom no longer shows when ops are sent as the trial says."""
    for clean in range(1, TRIES + 1):
        if lab.run(trial, "apart", position + 1, confirming=True)[1]:
            return False
        if proven(bad, runs, 0, clean):
            return True
    return None
