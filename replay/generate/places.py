"""Where the ops of a generated trace go, and how long they are: around powers of two, the borders
of clusters and each other, since this is where drivers go wrong."""

from replay.generate.dice import Dice
from replay.generate.features import Features
from tracer.op import CARRIES_DATA, Kind, Op

SMALL = 64 << 10
"""The most bytes in a small op, and in any op while the ration is used up."""

OTHER_PER_OP = 1 << 20
"""Bytes that each op adds to what zeroes, trims and the like may cover: drivers that cannot zero
fast write them."""

CLUSTERS = 4
"""The most clusters in an op of whole clusters, unless it is big."""

BIG_STEPS = 6
"""Big ops have the length that is possible, half of it, a quarter, ...: so many lengths, and their
neighbours."""


class Places:
    """Draws places on a disk. Bytes that long ops may move or cover are rationed: each op adds to
    the ration, so that a trace replays fast, however large the clusters are."""

    def __init__(self, features: Features, size: int, dice: Dice) -> None:
        self._features = features
        self._size = size
        self._dice = dice
        self._ration = {True: features.longest_data, False: features.longest_other}

    def place(self, kind: int, flying: list[Op]) -> tuple[int, int]:
        """Return the offset and the length, in bytes, of an op other than a flush. ``flying`` are
        the ops in flight."""
        features, dice = self._features, self._dice
        limit = self._limit(kind)
        others = [op for op in flying if op.length]
        if others and dice.percent(features.near):
            other = dice.pick(others)
            if not dice.below(3):
                return self._fit(other.offset, other.length, limit)
            base = other.offset - other.offset % features.cluster
        elif dice.percent(features.hot):
            base = dice.pick(features.spots)
        else:
            base = dice.below(self._size)
            base -= base % features.cluster
        return self._fit(*self._shape(base, limit), limit)

    def used(self, op: Op) -> None:
        """Note that an op has been placed."""
        data = _moves_data(op.kind)
        self._ration[data] -= op.length
        self._ration[True] += self._features.data_per_op
        self._ration[False] += OTHER_PER_OP

    def _limit(self, kind: int) -> int:
        """Return the most bytes that an op may have now."""
        data = _moves_data(kind)
        longest = self._features.longest_data if data else self._features.longest_other
        return min(self._size, longest, max(SMALL, self._ration[data]))

    def _shape(self, base: int, limit: int) -> tuple[int, int]:
        """Return an offset and a length near ``base``, where a cluster begins."""
        features, dice = self._features, self._dice
        cluster, grain = features.cluster, features.grain
        if dice.percent(features.big):
            length = (limit >> dice.below(BIG_STEPS)) + dice.pick((-grain, 0, 0, grain))
            return base, length
        if dice.percent(features.whole):
            return base, cluster * dice.spread(1, CLUSTERS)
        most = max(1, min(cluster, SMALL) // grain)
        if dice.percent(features.spanning):
            before, behind = dice.around(most) * grain, dice.around(most) * grain
            return max(0, base - before), min(base, before) + behind
        length = dice.around(most) * grain
        rest = max(0, cluster - length)
        at = dice.pick((0, rest, dice.below(rest // grain + 1) * grain))
        return base + at, length

    def _fit(self, offset: int, length: int, limit: int) -> tuple[int, int]:
        """Return the offset and the length on the disk's grain, within the disk. The last grain of
        a disk may be short, and so may be an op at the end."""
        grain = self._features.grain
        offset = min(offset, self._size - 1)
        offset -= offset % grain
        length = max(grain, min(length, limit) // grain * grain)
        return offset, min(length, self._size - offset)


def _moves_data(kind: int) -> bool:
    """Whether ops of a kind have the length of data. A cache has too: it reads, and servers refuse
    what they would not read."""
    return kind in CARRIES_DATA or kind in (Kind.READ, Kind.CACHE)
