"""Steps that look at what the sector itself held before: lost writes, zeroes, older versions."""

from itertools import pairwise, product

import numpy as np

from analysis.provenance.case import Case
from analysis.provenance.lookup import Hits
from analysis.provenance.rows import Flags, Ints, as_rows
from tracer.op import Kind
from tracer.verdict import DamageKind

MAX_VERSIONS = 256
"""The most versions of a sector that are compared if ops wrote only parts of the sector."""


def previous(case: Case) -> None:
    """Explain the rows that hold what they held before the last write, and the rows of zeroes."""
    rows, before = case.rows, case.before
    empty = np.append(case.versions.empty, True)[before]
    written = (case.last >= 0) & ~case.mixed
    lost = written & case.zero & (empty | case.cleared)
    for first, stop in rows.runs(written & ~empty):
        cuts = np.flatnonzero(np.diff(before[first:stop])) + first + 1
        for a, b in pairwise([first, *map(int, cuts), stop]):
            start = int(rows.start[a])
            old = as_rows(case.versions.data(int(before[a]), start, int(rows.end[b - 1])), start)
            lost[a:b] |= (old == rows.actual[a:b]).all(axis=1)
    found = np.flatnonzero(lost)
    # the trim made these zeroes, not the op before it
    origin = np.where(case.zero[found] & case.cleared[found], -1, before[found])
    case.explain(found, DamageKind.LOST_WRITE, origin, case.starts[origin], case.last[found])
    for row in np.flatnonzero(case.mixed):
        _composite(case, int(row))
    zeroed = case.zero & (case.open | (case.are(DamageKind.LOST_WRITE) & _arrived(case)))
    case.explain(np.flatnonzero(zeroed), DamageKind.ZEROED, -1, 0)


def _composite(case: Case, row: int) -> None:
    """Explain a row of which ops wrote only parts.

    The row is compared with what it would hold without one of these ops, and with its older
    versions. The source is the op that wrote the first wrong byte.
    """
    versions, rows = case.versions, case.rows
    wanted, start, end = rows.bytes(row), int(rows.start[row]), int(rows.end[row])
    wrong = rows.first_byte(row) + int((rows.expected[row] != rows.actual[row]).argmax())
    visible = sorted({j for _, _, j in versions.writers(start, end) if j >= 0}, reverse=True)
    for j, trims in product(visible, (True, False)):
        if versions.content(start, end, trims=trims, without=j) == wanted:
            origin = versions.writers(wrong, wrong + 1, trims=trims, without=j)[0][2]
            case.explain(row, DamageKind.LOST_WRITE, origin, int(case.starts[origin]), j)
            return
    if case.zero[row]:
        return
    changes = versions.changes(start, end, MAX_VERSIONS)
    for (back, j), trims in product(enumerate(changes), (True, False)):
        if versions.content(start, end, j, trims) == wanted:
            origin = versions.writers(wrong, wrong + 1, j, trims)[0][2]
            case.explain(row, DamageKind.STALE, origin, int(case.starts[origin]), back + 1)
            return


def _arrived(case: Case) -> Flags:
    """Return the rows whose last write had completed before the culprit was submitted.

    If they hold zeroes, the culprit zeroed them. If the culprit is a flush, no row counts: the data
    may have been in a cache until then.
    """
    if case.culprit is None:
        return np.zeros(case.rows.count, bool)
    timing = case.versions.culprit
    if timing is None or timing.kind == Kind.FLUSH:
        return np.zeros(case.rows.count, bool)
    position = np.append(case.versions.position, case.culprit)[case.last]
    completed = np.append(case.versions.completed, -1)[case.last]
    arrived: Flags = (position < case.culprit) & (completed >= 0) & (completed < timing.submitted)
    return arrived


def older(case: Case, hits: Hits, content: Ints) -> None:
    """Explain the rows that hold an older version of themselves.

    ``content`` has for each row the index of the content in ``hits`` that it holds, -1 for none.
    """
    versions, rows = case.versions, case.rows
    wanted = case.open & (content >= 0) & ~case.mixed
    back = np.zeros(rows.count, np.int64)
    for j in case.touching[::-1]:
        if versions.trim[j]:
            continue
        a, b = case.first[j], case.stop[j]
        if versions.where[j] >= 0:
            some = a + np.flatnonzero(wanted[a:b])
            places = versions.where[j] + rows.start[some] - versions.start[j]
            some = some[hits.at(places) == content[some]]
            case.explain(some, DamageKind.STALE, j, versions.start[j], back[some])
            wanted[some] = False
        back[a:b] += 1
