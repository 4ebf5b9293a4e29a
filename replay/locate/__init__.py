"""Symptom -> culprit: the first op after which the test image shows the symptom.

The steps, from the cheapest to the surest: bracket the damaged sectors (bracket.py), watch them
(watch.py), suspect the op that showed the symptom, bisect prefixes (bisect.py). Each op found is
confirmed by the symptom itself (confirm.py): other faults are not followed. search.py joins the
steps; docs/finding-culprits.md explains why.
"""

from collections.abc import Callable

from replay.locate.confirm import Culprit
from replay.locate.search import Located, NoCulprit, Search, Suspect
from replay.locate.trial import Lab
from replay.options import Order
from replay.outcome import Outcome
from replay.runner import Runner
from replay.symptom import Symptom

__all__ = ["Culprit", "Located", "NoCulprit", "Suspect", "locate"]


def locate(
    runner: Runner,
    symptom: Symptom,
    outcome: Outcome,
    *,
    ops: int,
    order: Order,
    deadline: float,
    say: Callable[[str], None] = lambda text: None,
) -> Located:
    """Find the culprit behind a symptom of ``outcome``, a run of ``ops`` ops sent in ``order``.

    The search ends at ``deadline`` (by the monotonic clock) with what it knows by then. ``say``
    gets a line for each step. Raises what ``Runner.run`` raises, but not OutOfTime.
    """
    return Search(Lab(runner, say, deadline), symptom, outcome, ops, order).locate()
