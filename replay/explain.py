"""What was wrong in a run, range by range, and what is wrong with it."""

from typing import Any

from replay.runner import Outcome
from tracer.evidence import Evidence
from tracer.mirror import Difference
from tracer.op import SECTOR
from tracer.ranges import RangeSet
from tracer.source import TraceWithData
from tracer.trace import Fault

MAX_READS = 8
"""Reads that returned wrong bytes which were right again at the end: each is looked up by itself, since
it tells of another moment. What only later ones returned stays unexplained."""


def explained(
    source: TraceWithData, outcome: Outcome, upto: int, culprit: int | None
) -> list[dict[str, Any]]:
    """The damage of a run of the first ``upto`` ops, as ``Verdict.damage`` has it, by sector. Raises
    TraceError."""
    from analysis.provenance import explain

    found = explain(source, upto, culprit, outcome.evidence())
    told = RangeSet((one.sector, one.sector + one.sectors) for one in found)
    looked_up = 0
    for position, difference in sorted(outcome.played.faults, key=lambda fault: fault[0]):
        if looked_up == MAX_READS:
            break
        if difference.fault != Fault.DATA:
            continue
        pieces = [
            piece
            for piece in _pieces(difference)
            if not told.overlaps(piece.offset // SECTOR, -(-piece.end // SECTOR))
        ]
        looked_up += bool(pieces)
        for one in explain(source, position + 1, culprit, pieces):
            found.append(one)
            told.add(one.sector, one.sector + one.sectors)
    listed = [
        {
            "sector": one.sector, "sectors": one.sectors, "class": str(one.kind),
            "source": one.source, "detail": one.detail, "text": one.text,
        }
        for one in found
    ]  # fmt: skip
    unknown = dict.fromkeys(("class", "source", "detail", "text"))
    for start, end in outcome.damage():
        for first, last in told.outside(start // SECTOR, -(-end // SECTOR)):
            listed.append({"sector": first, "sectors": last - first, **unknown})
    return sorted(listed, key=lambda one: int(one["sector"]))


def _pieces(difference: Difference) -> list[Evidence]:
    """What a read returned wrong."""
    pieces = []
    for start, end in difference.ranges:
        where = slice(start - difference.offset, end - difference.offset)
        pieces.append(Evidence(start, difference.expected[where], difference.actual[where]))
    return pieces
