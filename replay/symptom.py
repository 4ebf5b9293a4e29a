"""The symptom of a run: the earliest sign that something is wrong."""

from dataclasses import dataclass

from replay.outcome import Outcome
from tracer.mirror.difference import Difference
from tracer.op import SECTOR, Fault
from tracer.ranges import RangeSet
from tracer.verdict import SymptomKind, VerdictKind

_DAMAGED = {SymptomKind.READ, SymptomKind.BLOCK_STATUS, SymptomKind.IMAGE, SymptomKind.REOPEN}
"""Symptoms of damage. The other symptoms mean that the driver failed."""


@dataclass(frozen=True, slots=True)
class Symptom:
    """The earliest sign that something is wrong in a run. A position is an op's place in the order
    of submission, from 0."""

    what: SymptomKind
    reason: str
    """A sentence for people."""
    within: int
    """The culprit is among the first ``within`` ops."""
    suspect: int | None = None
    """The position of the op that showed the symptom, if an op did."""
    targets: RangeSet | None = None
    """The damaged bytes, if watching them can show when they went wrong."""
    difference: Difference | None = None
    """What differed, if the symptom is a difference."""
    right: int = 0
    """The first ``right`` ops are known to be right: the culprit is not among them."""

    @property
    def verdict(self) -> VerdictKind:
        """Damaged or failed."""
        return VerdictKind.DAMAGED if self.what in _DAMAGED else VerdictKind.FAILED


def symptom_of(outcome: Outcome, ops: int) -> Symptom | None:
    """Return the symptom of a run of ``ops`` ops, or None if the run was clean."""
    found = _while_playing(outcome)
    if found:
        return min(found, key=lambda symptom: symptom.within)
    if outcome.live is not None and outcome.live.first is not None:
        return _of_image(outcome.live.first, outcome.live.damage, ops)
    if outcome.gone is not None:
        return Symptom(SymptomKind.CRASH, outcome.gone, ops)
    for sweep in (outcome.live, outcome.reopened):
        if sweep is not None and sweep.first is None and sweep.failed is not None:
            return Symptom(SymptomKind.STATUS, str(sweep.failed), ops)
    if outcome.stop is not None:
        return Symptom(SymptomKind.STOP, outcome.stop, ops)
    if outcome.reopened is not None and outcome.reopened.first is not None:
        first = outcome.reopened.first
        reader = f" by {outcome.reader}" if outcome.reader else ""
        reason = (
            f"the image is wrong after a restart{reader}, first in sector {first.offset // SECTOR}"
        )
        return Symptom(SymptomKind.REOPEN, reason, ops, difference=first)
    if outcome.check is not None:
        return Symptom(SymptomKind.CHECK, f"the check failed, {outcome.check.splitlines()[0]}", ops)
    return None


def _while_playing(outcome: Outcome) -> list[Symptom]:
    found: list[Symptom] = []
    if outcome.faults:
        found.append(_of_fault(*min(outcome.faults, key=lambda fault: fault[0]), _seen(outcome)))
    if outcome.hung is not None:
        position, op = outcome.hung
        reason = f"{op.describe()} was not answered in time"
        found.append(Symptom(SymptomKind.HANG, reason, position + 1, position))
    if outcome.lost is not None:
        position, op = outcome.lost
        reason = f"{outcome.gone}, {op.describe()} in flight"
        # any op in flight may be to blame, from the oldest to the last sent
        suspect = position if outcome.started == position + 1 else None
        found.append(Symptom(SymptomKind.CRASH, reason, outcome.started, suspect, right=position))
    return found


def _of_image(first: Difference, damage: RangeSet, ops: int) -> Symptom:
    if first.fault == Fault.BLOCK_STATUS:
        reason = f"block status calls data zeroes, first in sector {first.offset // SECTOR}"
        return Symptom(SymptomKind.BLOCK_STATUS, reason, ops, difference=first)
    reason = f"the image is wrong at the end, first in sector {first.offset // SECTOR}"
    if first.fault != Fault.FINAL:
        reason = f"sector {first.offset // SECTOR} cannot be read at the end"
    return Symptom(SymptomKind.IMAGE, reason, ops, targets=damage, difference=first)


def _seen(outcome: Outcome) -> RangeSet:
    """Return all damage seen on the live driver: the damage seen last may have happened first."""
    seen = outcome.bad_reads.copy()
    for start, end in outcome.live.damage if outcome.live is not None else ():
        seen.add(start, end)
    return seen


def _of_fault(position: int, difference: Difference, seen: RangeSet) -> Symptom:
    op = difference.op
    assert op is not None
    sector = difference.offset // SECTOR
    if difference.fault == Fault.DATA:
        reason = f"{op.describe()} returned wrong data in sector {sector}"
        return Symptom(SymptomKind.READ, reason, position + 1, position, seen, difference)
    if difference.fault == Fault.BLOCK_STATUS:
        reason = f"{op.describe()} calls data zeroes in sector {sector}"
        return Symptom(SymptomKind.BLOCK_STATUS, reason, position + 1, difference=difference)
    wrong = "failed" if difference.actual_status else "succeeded"
    reason = f"{op.describe()} {wrong} (errno {difference.actual_status}, "
    reason += f"reference {difference.expected_status})"
    return Symptom(SymptomKind.STATUS, reason, position + 1, position, difference=difference)
