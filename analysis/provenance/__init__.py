"""What kind of damage it is, and which op the wrong bytes came from.

docs/finding-culprits.md, "What kind of damage", defines the kinds and their order of preference.
The steps go from certain to likely. Each step looks only at the sectors that the earlier steps left
unexplained:

    history.py     what the sector held before: lost-write, zeroed, stale
    elsewhere.py   everything that was ever written: misdirected
    bytewise.py    the bytes themselves: bit-flip, torn, shifted

Then causes.py groups the findings: one cause may have damaged many ranges.

Memory: about four times the evidence, 80 bytes for each op that changed data, one payload block,
and 16 bytes for each sector ever written whose content equals that of a damaged sector.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
from msgspec import structs

from analysis.provenance import patterns
from analysis.provenance.bytewise import flips, shifts, tears
from analysis.provenance.case import CLASSES, Case
from analysis.provenance.causes import group
from analysis.provenance.changes import Changes, read_changes
from analysis.provenance.elsewhere import elsewhere
from analysis.provenance.findings import sentence
from analysis.provenance.history import previous
from analysis.provenance.rows import Rows
from analysis.provenance.versions import Versions
from tracer.candidates.evidence import Evidence
from tracer.op import KIND_BY_NUMBER, sectors
from tracer.trace.data import TraceWithData
from tracer.verdict import Cause, DamageKind, Detail, Finding, Origin

__all__ = ["Explainer", "explain"]


class Explainer:
    """Finds the kind of damage that runs of one trace did. The first call reads the trace.

    ``ops`` is the number of ops in the longest run. ``culprit`` is the culprit's position in the
    order of submission, None if it is not known.
    """

    def __init__(self, source: TraceWithData, ops: int, culprit: int | None) -> None:
        self._source = source
        self._ops = ops
        self._culprit = culprit

    def __call__(self, upto: int, evidence: Sequence[Evidence]) -> list[Finding]:
        """Return the kind of damage of every damaged sector, and where its bytes came from.

        ``upto`` is the number of ops played, at most that of the longest run. ``evidence`` is the
        whole damage after these ops, in pieces that do not overlap. Bytes outside it count as
        right. Findings are in the order of the disk. Raises TraceError if the trace or its payloads
        cannot be read.
        """
        rows = Rows(evidence)
        if not rows.count:
            return []
        versions = Versions(self._source, self._changes.upto(upto))
        case = Case(versions, rows, self._source.trace.header.size, upto, self._culprit)
        for step in (previous, elsewhere, flips, tears, shifts):
            step(case)
        case.explain(np.flatnonzero(case.open), DamageKind.FOREIGN, -1, 0)
        same = rows.joined.copy()
        for column in (case.kind, case.op, case.base, case.extra):
            same[1:] &= column[1:] == column[:-1]
        edges = [*map(int, np.flatnonzero(~same)), rows.count]
        return [_finding(case, first, stop) for first, stop in pairwise(edges)]

    def causes(self, findings: Sequence[Finding]) -> list[Cause]:
        """Group findings by cause, as ``analysis.provenance.causes`` describes. Raises
        TraceError."""
        return group(findings, self._changes) if findings else []

    @cached_property
    def _changes(self) -> Changes:
        return read_changes(self._source.trace, self._ops, self._culprit)


def explain(
    source: TraceWithData, upto: int, culprit: int | None, evidence: Sequence[Evidence]
) -> list[Finding]:
    """Explain the damage of one run of the first ``upto`` ops, as ``Explainer`` does.

    Raises TraceError.
    """
    return Explainer(source, upto, culprit)(upto, evidence)


def _finding(case: Case, first: int, stop: int) -> Finding:
    """Return the rows ``[first, stop)``, which have the same explanation, as one finding."""
    rows, versions = case.rows, case.versions
    damage = CLASSES[case.kind[first]]
    start, extra = int(rows.start[first]), int(case.extra[first])
    j, writer = int(case.op[first]), int(case.last[first])
    at = start - int(case.base[first])
    detail = Detail()
    match damage:
        case DamageKind.LOST_WRITE:
            writer = extra
        case DamageKind.STALE:
            detail = Detail(versions_back=extra)
        case DamageKind.MISDIRECTED:
            detail = Detail(meant_for=at + int(versions.start[j]))
        case DamageKind.TORN:
            detail = case.torn[extra]
            assert detail.into_op is not None
            at = detail.into_op
        case DamageKind.BIT_FLIP:
            expected, actual = rows.expected[first:stop], rows.actual[first:stop]
            detail = Detail(
                bits=int(patterns.flips(expected, actual).sum()),
                first=patterns.flipped(expected, actual, rows.first_byte(first)),
            )
        case DamageKind.SHIFTED:
            detail = Detail(by=extra)
            at = max(0, at)  # bytes before the op's data were not moved
    touched = sectors(start, int(rows.end[stop - 1]))
    found = Finding(
        sector=touched.start,
        sectors=len(touched),
        kind=damage,
        source=_origin(versions, j, at),
        detail=detail,
        writer=_origin(versions, writer, max(0, start - int(case.starts[writer]))),
    )
    return structs.replace(found, text=sentence(found))


def _origin(versions: Versions, index: int, at: int) -> Origin | None:
    """Return an op as the origin of bytes, or None for index -1. If a sector begins before the op
    (``at`` < 0), the op's bytes in it begin with its first."""
    if index < 0:
        return None
    op = versions.op(index)
    kind = KIND_BY_NUMBER[op.kind].label
    return Origin(seq=op.seq, kind=kind, offset=op.offset, length=op.length, at=max(0, at))
