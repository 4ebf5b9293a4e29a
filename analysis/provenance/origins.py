"""Find the ops that wrote a content found in the stream of all written data."""

import numpy as np

from analysis.provenance.lookup import Hits
from analysis.provenance.rows import Ints
from analysis.provenance.versions import Versions
from tracer.op import SECTOR

MAX_ORIGINS = 32
"""Occurrences of one content that are considered, the nearest in time. A content that was written
more often says little about where it came from."""


class Origins:
    """The places in the stream where each content was found, and the op that wrote it there.

    If several ops wrote the same payload, the op nearest in time to ``moment`` (a position) counts,
    then the first.
    """

    def __init__(self, versions: Versions, hits: Hits, moment: int) -> None:
        op = _nearest(versions, hits.place, moment)
        known = np.flatnonzero(op >= 0)
        distance = np.abs(versions.position[op[known]] - moment)
        order = known[np.lexsort((hits.place[known], op[known], distance, hits.content[known]))]
        self._content, self._place, self._op = hits.content[order], hits.place[order], op[order]

    def of(self, content: int) -> list[tuple[int, int]]:
        """Return (place, op index) for a content's occurrences, the nearest in time first."""
        first, stop = np.searchsorted(self._content, [content, content + 1])
        stop = min(stop, first + MAX_ORIGINS)
        return list(
            zip(self._place[first:stop].tolist(), self._op[first:stop].tolist(), strict=True)
        )


def _nearest(versions: Versions, places: Ints, moment: int) -> Ints:
    """Return, for each place where a sector was found, the op nearest to ``moment`` that wrote it.

    The place must be a whole sector of the disk in the op's data. -1 if no op fits.
    """
    real = np.flatnonzero(versions.where >= 0)
    # ops with the same payload and alignment become neighbours, in the order of submission
    key = versions.where[real] * SECTOR + -versions.start[real] % SECTOR
    order = np.lexsort((versions.position[real], key))
    real, key = real[order], key[order]
    begins = np.unique(versions.where[real])
    begin = begins[np.searchsorted(begins, places, "right") - 1]
    wanted = begin * SECTOR + (places - begin) % SECTOR
    groups, first = np.unique(key, return_index=True)
    stop = np.append(first[1:], len(key))
    group = np.searchsorted(groups, wanted).clip(max=len(groups) - 1)
    # group and position make one number, so that one search finds the moment within each group
    width = int(versions.position.max()) + moment + 2
    line = np.repeat(np.arange(len(groups)), stop - first) * width + versions.position[real]
    after = np.searchsorted(line, group * width + moment)
    earlier = (after - 1).clip(first[group], stop[group] - 1)
    later = after.clip(first[group], stop[group] - 1)
    distances = [np.abs(versions.position[real[index]] - moment) for index in (earlier, later)]
    chosen = real[np.where(distances[0] <= distances[1], earlier, later)]
    sound = groups[group] == wanted
    sound &= places + SECTOR - begin <= versions.end[chosen] - versions.start[chosen]
    return np.where(sound, chosen, -1)
