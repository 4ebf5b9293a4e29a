"""Where the power may be cut, and what may be lost then: the crash states of a run.

A state is a number. Its point is how many lower ops were issued; of those that no completed lower
flush covers, any may be missing, and the last may be torn. All states of a run are numbered without
being made, so that a sample costs no more than its size.
"""

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from tracer.below.op import LowerKind, LowerOp
from tracer.op import SECTOR

LAST = 12
"""How many of the last lower ops are each left out alone, and each done alone: what goes together
is close together (a cluster's data, its refcount, its L2 entry)."""

RANDOM = 4
"""Random subsets at each point."""

CHANGES = frozenset({LowerKind.WRITE, LowerKind.ZERO, LowerKind.DISCARD, LowerKind.TRUNCATE})


@dataclass(frozen=True, slots=True)
class Crash:
    """A crash state: the first ``point`` lower ops were issued, those in ``missing`` are not on the
    disk. If ``torn`` is not None, of the last op only the first ``torn`` bytes are."""

    point: int
    missing: frozenset[int] = frozenset()
    torn: int | None = None


class Points:
    """All crash states of a run's lower ops. ``seed`` selects the random subsets."""

    def __init__(self, ops: Sequence[LowerOp], seed: int = 0) -> None:
        self.ops = ops
        self._seed = seed
        self._covered = [0]
        """By point: how many lower ops a completed flush covers."""
        for number, op in enumerate(ops):
            flush = op.kind is LowerKind.FLUSH and not op.error
            self._covered.append(number if flush else self._covered[-1])
        self._open = self._count_open()
        self._ends = list(accumulate(map(self.states_at, range(len(ops) + 1))))

    @property
    def count(self) -> int:
        """How many points there are: before the first lower op, and after each."""
        return len(self.ops) + 1

    @property
    def states(self) -> int:
        """How many states there are."""
        return self._ends[-1]

    def covered(self, point: int) -> int:
        """Return how many of the first lower ops are durable at a point: those that completed
        before the last flush did."""
        return self._covered[point]

    def open(self, point: int) -> list[int]:
        """Return the lower ops that may be missing at a point."""
        return [number for number in range(self._covered[point], point) if self._may_miss(number)]

    def states_at(self, point: int) -> int:
        """Return how many states a point has: all is there; nothing is; each of the last is missing
        or alone; random subsets; the last is torn."""
        many = self._open[point]
        if many == 0:
            return 1
        if many == 1:
            return 2 + self._tears(point)
        single = min(many, LAST)
        # of two, the one that is missing leaves the other alone
        alone = single if many > 2 else 0
        return 2 + single + alone + (RANDOM if many > 2 else 0) + self._tears(point)

    def number(self, point: int, variant: int) -> int:
        """Return the number of a state. Variant 0 has all ops, 1 none that may be missing."""
        return (self._ends[point - 1] if point else 0) + variant

    def state(self, number: int) -> Crash:
        """Return a state by its number."""
        point = bisect_right(self._ends, number)
        variant = number - (self._ends[point - 1] if point else 0)
        return self._variant(point, variant)

    def _variant(self, point: int, variant: int) -> Crash:
        if variant == 0:
            return Crash(point)
        open_ = self.open(point)
        if variant == 1:
            return Crash(point, frozenset(open_))
        variant -= 2
        last = open_[-LAST:][::-1] if len(open_) > 1 else []
        if variant < len(last):
            return Crash(point, frozenset({last[variant]}))
        variant -= len(last)
        if len(open_) > 2:
            if variant < len(last):
                return Crash(point, frozenset(open_) - {last[variant]})
            variant -= len(last)
            if variant < RANDOM:
                chance = random.Random(f"{self._seed} {point} {variant}")
                share = chance.random()
                return Crash(point, frozenset(n for n in open_ if chance.random() < share))
            variant -= RANDOM
        op = self.ops[point - 1]
        return Crash(point, torn=_torn(op, variant))

    def _may_miss(self, number: int) -> bool:
        op = self.ops[number]
        return op.kind in CHANGES and not op.fua and not op.error

    def _tears(self, point: int) -> int:
        """Return in how many ways the last op of a point is torn."""
        last = point - 1
        if point == 0 or not self._may_miss(last):
            return 0
        op = self.ops[last]
        many = op.length // SECTOR if op.kind is LowerKind.WRITE else 0
        return min(max(many - 1, 0), 2)

    def _count_open(self) -> list[int]:
        """Return for each point how many lower ops may be missing there."""
        found, running = [0], 0
        for number in range(len(self.ops)):
            if self._covered[number + 1] != self._covered[number]:
                running = 0
            running += self._may_miss(number)
            found.append(running)
        return found


def _torn(op: LowerOp, variant: int) -> int:
    """Return after how many bytes an op is torn: in its middle, or before its last sector."""
    sectors = op.length // SECTOR
    return SECTOR * (sectors // 2 if variant == 0 else sectors - 1)
