"""Explain the damage of one run, range by range."""

from typing import TYPE_CHECKING

from replay.outcome import Outcome
from tracer.candidates.evidence import Evidence
from tracer.mirror.difference import Difference
from tracer.op import SECTOR, Fault, sectors
from tracer.ranges import RangeSet
from tracer.verdict import Finding

if TYPE_CHECKING:
    from analysis.provenance import Explainer

MAX_READS = 8
"""The most wrong reads that are looked up, if their bytes were right again at the end. Each needs a
lookup of its own, at its own moment. What only later reads returned stays unexplained."""


def explained(explain: "Explainer", outcome: Outcome, upto: int) -> list[Finding]:
    """Return the damage of a run of the first ``upto`` ops, sorted by sector. Raises TraceError if
    a payload cannot be read."""
    found = explain(upto, outcome.evidence())
    covered = RangeSet((finding.start, finding.end) for finding in found)
    looked_up = 0
    for position, difference in sorted(outcome.faults, key=lambda fault: fault[0]):
        if looked_up == MAX_READS:
            break
        if difference.fault != Fault.DATA:
            continue
        pieces = [piece for piece in _pieces(difference) if not _overlaps(covered, piece)]
        looked_up += bool(pieces)
        for finding in explain(position + 1, pieces):
            found.append(finding)
            covered.add(finding.start, finding.end)
    unexplained = RangeSet()
    for start, end in outcome.damage():
        for first, last in covered.outside(start, end):
            unexplained.add(first, last)
    found += [Finding(sector=sector, sectors=count) for sector, count in unexplained.sectors()]
    return sorted(found, key=lambda finding: finding.sector)


def _overlaps(covered: RangeSet, piece: Evidence) -> bool:
    """Return whether any sector of the piece is covered."""
    touched = sectors(piece.offset, piece.end)
    return covered.overlaps(touched.start * SECTOR, touched.stop * SECTOR)


def _pieces(difference: Difference) -> list[Evidence]:
    """Return the bytes that a read returned wrong."""
    pieces = []
    for start, end in difference.ranges:
        where = slice(start - difference.offset, end - difference.offset)
        pieces.append(Evidence(start, difference.expected[where], difference.actual[where]))
    return pieces
