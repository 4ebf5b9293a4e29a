"""One run of a candidate: does it show the fault that is sought?

``run`` works in a process of its own: all that it takes and returns is data. ``Replayed`` looks for
faults of replays; ``power.py`` has those of power cuts.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from blkbox.judging.explain import explained
from blkbox.judging.signs import DATA, Sign, sign
from replay.minimize.lab import Shown
from replay.options import ReplayOptions
from replay.outcome import Outcome, Stage
from replay.run import Run
from replay.runner import Runner
from replay.symptom import symptoms
from tracer.disk.private import PrivateFolder, Use
from tracer.errors import DriverHung, Undecidable
from tracer.trace.data import TraceWithData
from tracer.verdict import SymptomKind

LAST = {SymptomKind.READ: Stage.LIVE, SymptomKind.IMAGE: Stage.LIVE,
        SymptomKind.BLOCK_STATUS: Stage.LIVE, SymptomKind.STATUS: Stage.LIVE,
        SymptomKind.FLUSH: Stage.FLUSHED, SymptomKind.CHECK: Stage.CHECKED}  # fmt: skip
"""The stage by which a symptom shows, if it is not the last one: the stages after it are left
out."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one run of a candidate showed: its signs, and the ops that were sent."""

    signs: tuple[Sign, ...]
    ops: int
    undecidable: str | None = None


class Probe(Protocol):
    """A way to look at a candidate."""

    def look(self, trace: Path, last: Stage = Stage.REOPENED) -> Seen:
        """Run a candidate once, up to a stage, and say what it shows. Raises TraceError,
        StorageError, UsageError."""
        ...


@dataclass(frozen=True, slots=True)
class Sought:
    """What is sought, and how."""

    sign: Sign
    probe: Probe


def run(trace: Path, sought: Sought) -> Shown:
    """Run a candidate once, and say whether it shows the fault. Raises as ``Probe.look``."""
    seen = sought.probe.look(trace, LAST.get(sought.sign.what, Stage.REOPENED))
    fault = any(sought.sign.shows(one) for one in seen.signs)
    others = () if fault else tuple(dict.fromkeys(map(str, seen.signs)))
    return Shown(fault, seen.ops, others, seen.undecidable)


@dataclass(frozen=True, slots=True)
class Replayed:
    """Candidates are replayed."""

    options: ReplayOptions

    def look(self, trace: Path, last: Stage = Stage.REOPENED) -> Seen:
        with PrivateFolder(Use.REPLAY) as folder, TraceWithData(trace) as source:
            runner = Runner(source, replace(self.options, work=folder.path, keep=False))
            end = source.trace.end
            assert end is not None
            ops = max(end.ops, runner.first)
            try:
                runner.start.build(source)
                outcome = runner.run(
                    Run("candidate", self.options.order, ops, last=last, everything=True)
                )
            except (Undecidable, DriverHung) as error:
                return Seen((), runner.cost.ops, str(error))
            return Seen(tuple(_signs(source, outcome, ops)), runner.cost.ops)


def _signs(source: TraceWithData, outcome: Outcome, ops: int) -> Iterator[Sign]:
    """Yield the signs of an outcome."""
    classes: frozenset[str] | None = None
    for symptom in symptoms(outcome, ops):
        if symptom.what in DATA and classes is None:
            classes = _classes(source, outcome, ops)
        yield sign(
            symptom.verdict, symptom.what, classes or frozenset(), symptom.reason, outcome.log
        )


def _classes(source: TraceWithData, outcome: Outcome, ops: int) -> frozenset[str]:
    """Return the kinds of damage in an outcome."""
    from analysis.provenance import Explainer  # loads numpy, which a clean run does not need

    found = explained(Explainer(source, ops, None), outcome, ops)
    return frozenset(one.kind.value for one in found if one.kind is not None)
