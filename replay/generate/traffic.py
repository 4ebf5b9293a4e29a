"""The ops of a generated trace, in the order of completion, and the restarts between them.

Time is simulated: each op takes some microseconds, and the next ones are submitted meanwhile.
"""

from collections.abc import Iterator
from heapq import heappop, heappush

from blake3 import blake3

from replay.generate.dice import Dice
from replay.generate.features import Features
from replay.generate.places import Places
from tracer.op import MUTATING, Flag, Kind, Op, conflicting
from tracer.trace.records import Restart

GAP = 2_000
"""The most ns from one submission to the next, unless something has to complete first."""

LATENCY = 1_000, 100_000
"""The ns that an op takes: much more than GAP, so that the depth is reached, and spread, so that
ops complete in any order."""

LONGEST_PIECE = 1 << 20
"""Bytes of a piece of data that the disk starts with: every run of a search copies them all."""

TRIES = 4
"""How often an op's place is drawn again if ops in flight are in the way. Then it waits."""


def traffic(features: Features, size: int, ops: int, seed: int) -> Iterator[Op | Restart]:
    """Yield the pieces of data that a disk of ``size`` bytes starts with, then ``ops`` ops in the
    order of completion, each restart before all ops that follow it. Depends on the arguments
    alone."""
    dice = Dice(2 * seed + 1)  # 2 * seed has drawn the features
    restarts = {dice.below(ops) for _ in range(features.restarts)} - {0}
    flight = _Flight(features.depth)
    maker = _Maker(features, size, seed, dice)
    first = features.start
    for seq in range(first):
        yield maker.start(seq)
    for seq in range(first, first + ops):
        if seq - first in restarts:
            yield from flight.drained()
            yield Restart(seq, flight.now, "between two phases")
        flight.now += 1 + dice.below(GAP)
        op = maker.op(seq)
        barrier = op.kind == Kind.FLUSH and dice.percent(features.barriers)
        if barrier or dice.percent(features.quiet):
            yield from flight.drained()
        yield from flight.room()
        maker.place(op, flight.ops())
        if not features.conflicts:
            yield from flight.without(op)
        flight.submit(op, dice.between(*LATENCY))
        if barrier:
            yield from flight.drained()
    yield from flight.drained()


def made_up(seed: int, seq: int) -> bytes:
    """Return the digest of what a write writes: no two writes of a trace are alike."""
    numbers = b"".join(number.to_bytes(8, "little") for number in (seed, seq))
    return blake3(b"blkbox generate" + numbers).digest(16)


class _Maker:
    """Makes ops: what each does, and where."""

    def __init__(self, features: Features, size: int, seed: int, dice: Dice) -> None:
        self._features = features
        self._seed = seed
        self._dice = dice
        self._places = Places(features, size, dice)
        self._kinds = {int(Kind[label.upper()]): often for label, often in features.kinds.items()}

    def start(self, seq: int) -> Op:
        """Return a piece of data that the disk starts with."""
        offset, length = self._places.place(int(Kind.START), [])
        length = min(length, LONGEST_PIECE)
        digest = made_up(self._seed, seq)
        return Op(seq, int(Kind.START), 0, offset, length, completed=0, digest=digest)

    def op(self, seq: int) -> Op:
        """Return the next op, without a place or a time."""
        features, dice = self._features, self._dice
        connection = dice.between(1, features.connections)
        if features.flush_every and not dice.below(features.flush_every):
            return Op(seq, int(Kind.FLUSH), connection=connection)
        op = Op(seq, dice.weighted(self._kinds), connection=connection)
        if op.kind in MUTATING and dice.percent(features.fua):
            op.flags |= int(Flag.FUA)
        if op.kind == Kind.ZERO:
            if dice.percent(features.no_hole):
                op.flags |= int(Flag.NO_HOLE)
            if dice.percent(features.fast_zero):
                op.flags |= int(Flag.FAST_ZERO)
        if op.kind == Kind.WRITE and not dice.percent(features.zeroes):
            op.digest = made_up(self._seed, seq)
        return op

    def place(self, op: Op, flying: list[Op]) -> None:
        """Set the op's offset and length. Without conflicts, rather where no op in ``flying`` is in
        the way."""
        if op.kind == Kind.FLUSH:
            return
        for _ in range(TRIES):
            op.offset, op.length = self._places.place(op.kind, flying)
            if self._features.conflicts or not any(conflicting(op, flying)):
                break
        self._places.used(op)


class _Flight:
    """The ops in flight at a simulated time, ``now``, in ns."""

    def __init__(self, depth: int) -> None:
        self.now = 0
        self._depth = depth
        self._ops: list[tuple[int, int, Op]] = []
        """A heap: (completed, seq, op)."""

    def ops(self) -> list[Op]:
        """Return the ops in flight, in the order of submission."""
        return [op for _, _, op in sorted(self._ops, key=lambda entry: entry[1])]

    def submit(self, op: Op, latency: int) -> None:
        """Submit an op now, which completes after ``latency`` ns."""
        op.submitted, op.completed = self.now, self.now + latency
        heappush(self._ops, (op.completed, op.seq, op))

    def room(self) -> Iterator[Op]:
        """Let time pass until another op may be in flight; yield what completes. Ops that have
        completed before now are yielded too."""
        while self._ops and (self._ops[0][0] < self.now or len(self._ops) >= self._depth):
            yield self._next()

    def without(self, op: Op) -> Iterator[Op]:
        """Let time pass until nothing that conflicts with ``op`` is in flight."""
        while any(conflicting(op, (other for _, _, other in self._ops))):
            yield self._next()
        yield from self.room()

    def drained(self) -> Iterator[Op]:
        """Let time pass until nothing is in flight."""
        while self._ops:
            yield self._next()

    def _next(self) -> Op:
        """Let time pass until the next op has completed. What is submitted then is submitted
        later than that: at the same time would mean that the two were in flight together."""
        completed, _, op = heappop(self._ops)
        self.now = max(self.now, completed + 1)
        return op
