"""The step that searches everything that was ever written.

It finds sectors that hold data meant for another place (misdirected), or an older version (stale).
"""

import numpy as np

from analysis.provenance.case import Case
from analysis.provenance.history import older
from analysis.provenance.lookup import WORDS, Hits, find, sector_hashes
from analysis.provenance.origins import Origins
from analysis.provenance.rows import Ints
from tracer.op import SECTOR
from tracer.progress import bar
from tracer.verdict import DamageKind


def elsewhere(case: Case) -> None:
    """Search all written data for the contents of the unexplained whole sectors, and explain these.

    Raises TraceError.
    """
    rows = case.rows
    chosen = np.flatnonzero(case.open & rows.whole)
    starts, ends = case.versions.spans()
    if not len(chosen) or not len(starts):
        return
    hashes = sector_hashes(rows.actual[chosen].view("<u8").reshape(-1, WORDS))
    _, index, which = np.unique(hashes, return_index=True, return_inverse=True)
    wanted = rows.actual[chosen[index]]
    # if two contents have the same hash, only the first is looked up; the other stays unexplained
    same = (wanted[which] == rows.actual[chosen]).all(axis=1)
    content: Ints = np.full(rows.count, -1, np.int64)
    content[chosen[same]] = which[same]
    with bar("looking up what is damaged", int(ends.max() - starts.min())) as progress:
        hits = find(case.versions.blocks, starts, ends, wanted, progress)
    if len(hits.place):
        older(case, hits, content)
        _misdirected(case, hits, content)
        _join(case)


def _misdirected(case: Case, hits: Hits, content: Ints) -> None:
    """Explain the rows that hold data meant for another place.

    Of the ops that wrote this data, choose the op that explains the most rows from here on, then
    the nearest in time, then the first.
    """
    rows, versions = case.rows, case.versions
    origins = Origins(versions, hits, case.moment)
    for first, stop in rows.runs(case.open & (content >= 0)):
        row = first
        while row < stop:
            best: tuple[int, int, int] | None = None
            for place, j in origins.of(int(content[row])):
                at = place - int(versions.where[j])
                room = (int(versions.end[j] - versions.start[j]) - at) // SECTOR
                ahead = slice(row, min(stop, row + room))
                fits = hits.at(rows.start[ahead] - rows.start[row] + place) == content[ahead]
                count = len(fits) if fits.all() else int(fits.argmin())
                if best is None or count > best[0]:
                    best = count, j, int(rows.start[row]) - at
            if best is None:
                row += 1
                continue
            case.explain(slice(row, row + best[0]), DamageKind.MISDIRECTED, best[1], best[2])
            row += best[0]


def _join(case: Case) -> None:
    """Explain weak rows by a misdirected neighbour, if its op continues with their bytes.

    A weak row is a part of a sector, or repeats one byte value: alone it proves little.
    """
    rows, versions = case.rows, case.versions
    weak = ~rows.whole | (rows.actual == rows.actual[:, :1]).all(axis=1)
    weak &= ~case.are(DamageKind.MISDIRECTED)
    for step, joined in ((1, rows.joined), (-1, np.append(rows.joined[1:], False))):
        beside = np.roll(case.are(DamageKind.MISDIRECTED), step)
        for found in np.flatnonzero(weak & joined & beside)[::step]:
            row = int(found)
            while 0 <= row < rows.count and weak[row] and joined[row]:
                j, base = int(case.op[row - step]), int(case.base[row - step])
                start = int(rows.start[row]) - base + int(versions.start[j])
                end = start + int(rows.end[row] - rows.start[row])
                inside = versions.start[j] <= start and end <= versions.end[j]
                if not inside or versions.data(j, start, end) != rows.bytes(row):
                    break
                case.explain(row, DamageKind.MISDIRECTED, j, base)
                weak[row] = False
                row += step
