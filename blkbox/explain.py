"""What was wrong in a run, range by range, and what is wrong with it."""

from typing import TYPE_CHECKING

from replay.outcome import Outcome
from tracer.mirror.difference import Difference
from tracer.mirror.evidence import Evidence
from tracer.op import SECTOR, Fault
from tracer.ranges import RangeSet
from tracer.verdict import Finding

if TYPE_CHECKING:
    from analysis.provenance import Explainer

MAX_READS = 8
"""Reads that returned wrong bytes which were right again at the end: each is looked up by itself, since
it tells of another moment. What only later ones returned stays unexplained."""


def explained(explain: "Explainer", outcome: Outcome, upto: int) -> list[Finding]:
    """The damage of a run of the first ``upto`` ops, by sector. Raises TraceError."""
    found = explain(upto, outcome.evidence())
    covered = RangeSet((one.start, one.end) for one in found)
    looked_up = 0
    for position, difference in sorted(outcome.faults, key=lambda fault: fault[0]):
        if looked_up == MAX_READS:
            break
        if difference.fault != Fault.DATA:
            continue
        pieces = [one for one in _pieces(difference) if not _overlaps(covered, one)]
        looked_up += bool(pieces)
        for one in explain(position + 1, pieces):
            found.append(one)
            covered.add(one.start, one.end)
    unexplained = RangeSet()
    for start, end in outcome.damage():
        for first, last in covered.outside(start, end):
            unexplained.add(first, last)
    found += [Finding(sector=sector, sectors=sectors) for sector, sectors in unexplained.sectors()]
    return sorted(found, key=lambda one: one.sector)


def _overlaps(covered: RangeSet, piece: Evidence) -> bool:
    """Whether any of a piece's sectors is covered."""
    return covered.overlaps(piece.offset // SECTOR * SECTOR, -(-piece.end // SECTOR) * SECTOR)


def _pieces(difference: Difference) -> list[Evidence]:
    """What a read returned wrong."""
    pieces = []
    for start, end in difference.ranges:
        where = slice(start - difference.offset, end - difference.offset)
        pieces.append(Evidence(start, difference.expected[where], difference.actual[where]))
    return pieces
