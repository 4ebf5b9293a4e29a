"""The symptoms of a run: the signs that something is wrong, the earliest first.

A search follows one symptom. ``again`` says whether another run shows the same one: the same kind
of fault on the same sectors. Any other fault of that run is another story.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from replay.outcome import Outcome, Stage
from tracer.driver.command import check_failed
from tracer.mirror.difference import Difference
from tracer.mirror.found import Sweep
from tracer.op import SECTOR, Fault, Op
from tracer.ranges import RangeSet
from tracer.verdict import SymptomKind, VerdictKind

_DAMAGED = {
    SymptomKind.READ, SymptomKind.BLOCK_STATUS, SymptomKind.IMAGE, SymptomKind.FLUSH,
    SymptomKind.REOPEN,
}  # fmt: skip
"""Symptoms of damage. The other symptoms mean that the driver failed."""

_SAME = {
    SymptomKind.READ: {SymptomKind.READ, SymptomKind.IMAGE},
    SymptomKind.IMAGE: {SymptomKind.READ, SymptomKind.IMAGE},
    # damage that a flush or a restart brought to light may also show earlier
    SymptomKind.FLUSH: {SymptomKind.READ, SymptomKind.IMAGE, SymptomKind.FLUSH},
    SymptomKind.REOPEN: {
        SymptomKind.READ, SymptomKind.IMAGE, SymptomKind.FLUSH, SymptomKind.REOPEN,
    },
}  # fmt: skip
"""The kinds that are the same sign as a kind, if they are more than that kind itself."""


@dataclass(frozen=True, slots=True)
class Symptom:
    """A sign that something is wrong in a run. A position is an op's place in the order of
    submission, from 0."""

    what: SymptomKind
    reason: str
    """A sentence for people."""
    within: int
    """The culprit is among the first ``within`` ops."""
    suspect: int | None = None
    """The position of the op that showed the symptom, if an op did."""
    damage: RangeSet = field(default_factory=RangeSet)
    """The damaged bytes, if the symptom is damage."""
    difference: Difference | None = None
    """What differed, if the symptom is a difference."""
    right: int = 0
    """The first ``right`` ops are known to be right: the culprit is not among them."""
    stage: Stage = Stage.LIVE
    """The stage of a run by which the symptom shows."""

    @property
    def verdict(self) -> VerdictKind:
        """Damaged or failed."""
        return VerdictKind.DAMAGED if self.what in _DAMAGED else VerdictKind.FAILED

    @property
    def can_be_watched(self) -> bool:
        """Whether reads of the damaged sectors show the damage while ops are played."""
        return self.what in (SymptomKind.READ, SymptomKind.IMAGE) and bool(self.damage)


def again(symptom: Symptom, outcome: Outcome, ops: int) -> Symptom | None:
    """Return the symptom in the outcome of a run of ``ops`` ops that is the same sign: the same
    kind of fault, on the same sectors or the same op. None if that run does not show it."""
    return next((other for other in symptoms(outcome, ops) if is_same(symptom, other)), None)


def is_same(symptom: Symptom, other: Symptom) -> bool:
    """Return whether ``other``, of another run, is the same sign as ``symptom``."""
    if other.what not in _SAME.get(symptom.what, {symptom.what}):
        return False
    if symptom.suspect is not None and symptom.what is SymptomKind.STATUS:
        return symptom.suspect == other.suspect
    if not symptom.damage:
        return not other.damage and other.stage <= symptom.stage
    return any(symptom.damage.overlaps(start, end) for start, end in other.damage)


def symptoms(outcome: Outcome, ops: int) -> list[Symptom]:
    """Return the symptoms of a run of ``ops`` ops, the earliest first. Empty for a clean run."""
    return [
        *sorted(_while_playing(outcome), key=lambda symptom: symptom.within),
        *_afterwards(outcome, ops if outcome.ended_at is None else outcome.ended_at),
    ]


def _while_playing(outcome: Outcome) -> Iterator[Symptom]:
    seen_reads = False
    for position, difference in sorted(outcome.faults, key=lambda fault: fault[0]):
        if difference.fault == Fault.DATA:
            if not seen_reads:  # the first stands for all: their damage is one set
                seen_reads = True
                yield _of_fault(position, difference, _seen(outcome))
        else:
            ranges = RangeSet(difference.ranges)
            yield _of_fault(position, difference, ranges)
    if outcome.hung is not None:
        position, op = outcome.hung
        reason = f"{op.describe()} was not answered in time"
        yield Symptom(SymptomKind.HANG, reason, position + 1, position, stage=Stage.PLAYED)
    if outcome.lost is not None:
        position, op = outcome.lost
        reason = f"{outcome.gone}, {op.describe()} in flight"
        # any op in flight may be to blame, from the oldest to the last sent. A driver may also
        # answer an op and crash then: a question at the end shows that, so the stage is not PLAYED
        suspect = position if outcome.started == position + 1 else None
        yield Symptom(SymptomKind.CRASH, reason, outcome.started, suspect, right=position)


def _afterwards(outcome: Outcome, ops: int) -> Iterator[Symptom]:
    if outcome.live is not None:
        what = "the image is wrong at the end"
        yield from _of_image(SymptomKind.IMAGE, what, outcome.live, ops, Stage.LIVE)
    if outcome.flushed is not None:
        what = "the image is wrong once it is flushed at the end"
        yield from _of_image(SymptomKind.FLUSH, what, outcome.flushed, ops, Stage.FLUSHED)
    if outcome.gone is not None and outcome.lost is None:
        what = SymptomKind.HANG if outcome.silent else SymptomKind.CRASH
        yield Symptom(what, outcome.gone, ops, stage=outcome.stage)
    if outcome.stop is not None:
        yield Symptom(SymptomKind.STOP, outcome.stop, ops, stage=outcome.stage)
    if outcome.reopened is not None:
        reader = f" by {outcome.reader}" if outcome.reader else ""
        what = f"the image is wrong after a restart{reader}"
        yield from _of_image(SymptomKind.REOPEN, what, outcome.reopened, ops, Stage.REOPENED)
    if outcome.report is not None:
        yield Symptom(
            SymptomKind.LOG, f"the driver printed {outcome.report}", ops, stage=Stage.CHECKED
        )
    if outcome.check is not None:
        reason = check_failed(outcome.check)
        yield Symptom(SymptomKind.CHECK, reason, ops, stage=Stage.CHECKED)


def _of_image(
    what: SymptomKind, text: str, sweep: Sweep, ops: int, stage: Stage
) -> Iterator[Symptom]:
    """Yield the symptoms that a comparison of the images shows."""
    if sweep.wrong is not None:
        sector = sweep.wrong.offset // SECTOR
        reason = f"{text}, first in sector {sector}"
        if sweep.wrong.fault == Fault.STATUS:
            reason = f"sector {sector} cannot be read at the end"
        yield Symptom(what, reason, ops, damage=sweep.damage, difference=sweep.wrong, stage=stage)
    if sweep.hole is not None:
        reason = f"block status calls data zeroes, first in sector {sweep.hole.offset // SECTOR}"
        yield Symptom(
            SymptomKind.BLOCK_STATUS, reason, ops,
            damage=sweep.false_holes, difference=sweep.hole, stage=stage,
        )  # fmt: skip
    if sweep.failed is not None and sweep.failed.is_answer:
        yield Symptom(SymptomKind.STATUS, f"{sweep.failed} at the end", ops, stage=stage)


def _seen(outcome: Outcome) -> RangeSet:
    """Return all damage seen on the live driver: the damage seen last may have happened first."""
    seen = outcome.bad_reads.copy()
    for start, end in outcome.live.damage if outcome.live is not None else ():
        seen.add(start, end)
    return seen


def _of_fault(position: int, difference: Difference, damage: RangeSet) -> Symptom:
    op = difference.op
    assert op is not None
    what, reason = _words(op, difference)
    suspect = None if what is SymptomKind.BLOCK_STATUS else position
    stage = Stage.PLAYED if what is SymptomKind.STATUS else Stage.LIVE
    return Symptom(what, reason, position + 1, suspect, damage, difference, stage=stage)


def _words(op: Op, difference: Difference) -> tuple[SymptomKind, str]:
    sector = difference.offset // SECTOR
    if difference.fault == Fault.DATA:
        return SymptomKind.READ, f"{op.describe()} returned wrong data in sector {sector}"
    if difference.fault == Fault.BLOCK_STATUS:
        return SymptomKind.BLOCK_STATUS, f"{op.describe()} calls data zeroes in sector {sector}"
    wrong = "failed" if difference.actual_status else "succeeded"
    return SymptomKind.STATUS, (
        f"{op.describe()} {wrong} (errno {difference.actual_status}, "
        f"reference {difference.expected_status})"
    )
