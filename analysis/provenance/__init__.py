"""What kind of damage: where did the wrong bytes come from?

docs/finding-culprits.md, "What kind of damage", has the definitions and what is preferred where several
fit. The steps go from what is certain to what is likely, and each looks only at the sectors that those
before it left unexplained:

    history.py     the place's own history: lost-write, zeroed; older: stale
    elsewhere.py   all that was ever written: misdirected
    bytewise.py    the bytes themselves: bit-flip, torn, shifted

Memory: about four times the evidence, 80 bytes for each op that changed data, one payload block, and 16
bytes for each sector ever written that holds what a damaged one does.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from analysis.provenance import patterns
from analysis.provenance.bytewise import flips, shifts, tears
from analysis.provenance.case import CLASSES, Case
from analysis.provenance.elsewhere import elsewhere
from analysis.provenance.findings import Damage, Finding, sentence
from analysis.provenance.history import previous
from analysis.provenance.rows import Rows
from analysis.versions import Versions
from tracer.evidence import Evidence
from tracer.op import KIND_BY_NUMBER, SECTOR
from tracer.source import TraceWithData

__all__ = ["Damage", "Evidence", "Finding", "explain"]


def explain(
    source: TraceWithData, upto: int, culprit: int | None, evidence: Sequence[Evidence]
) -> list[Finding]:
    """Say of every damaged sector what kind of damage it is and where its bytes came from.

    ``upto`` is how many ops were played and ``culprit`` the position of one of them, both in the order
    of submission. ``evidence`` is all the damage that there was then, in pieces that do not overlap:
    what is not in it counts as right. Findings are in the order of the disk; what is right has none.
    Raises TraceError where the trace or its payloads cannot be read.
    """
    rows = Rows(evidence)
    if not rows.count:
        return []
    with Versions(source, upto) as versions:
        case = Case(versions, rows, source.trace.header.size, upto, culprit)
        for step in (previous, elsewhere, flips, tears, shifts):
            step(case)
        case.mark(np.flatnonzero(case.open), Damage.FOREIGN, -1, 0)
        same = rows.joined.copy()
        for column in (case.kind, case.op, case.base, case.extra):
            same[1:] &= column[1:] == column[:-1]
        edges = [*map(int, np.flatnonzero(~same)), rows.count]
        return [_finding(case, first, stop) for first, stop in pairwise(edges)]


def _finding(case: Case, first: int, stop: int) -> Finding:
    """Rows with one explanation, as one finding."""
    rows, versions = case.rows, case.versions
    damage = CLASSES[case.kind[first]]
    start, extra = int(rows.start[first]), int(case.extra[first])
    j, writer = int(case.op[first]), int(case.last[first])
    at = start - int(case.base[first])
    detail: dict[str, Any] = {}
    match damage:
        case Damage.LOST_WRITE:
            writer = extra
        case Damage.STALE:
            detail = {"versions_back": extra}
        case Damage.MISDIRECTED:
            detail = {"meant_for": at + int(versions.start[j])}
        case Damage.TORN:
            detail = case.torn[extra]
            at = detail["into_op"]
        case Damage.BIT_FLIP:
            expected, actual = rows.expected[first:stop], rows.actual[first:stop]
            detail = {
                "bits": int(patterns.flips(expected, actual).sum()),
                "first": patterns.flipped(expected, actual, rows.first_byte(first)),
            }
        case Damage.SHIFTED:
            detail = {"by": extra}
            at = max(0, at)  # what lies before the op's data was not moved
    source = None
    if j >= 0:
        op = versions.op(j)
        source = {
            "seq": op.seq, "kind": KIND_BY_NUMBER[op.kind].label, "offset": op.offset,
            "length": op.length, "at": at,
        }  # fmt: skip
    sector = start // SECTOR
    sectors = -(-int(rows.end[stop - 1]) // SECTOR) - sector
    wrote, brought = (versions.name(index) if index >= 0 else "" for index in (writer, j))
    text = sentence(damage, sector, sectors, wrote, brought, detail)
    return Finding(sector, sectors, damage, source, detail, text)
