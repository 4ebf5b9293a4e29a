"""Features: what a seed drew from a profile. Together with the seed they determine the ops."""

from dataclasses import dataclass

from replay.generate.dice import Dice
from replay.generate.profiles import Profile
from tracer.op import SECTOR, Kind

SHARE = 10, 90
"""How many percent of the ops have a feature that is switched on. With less, two such ops would
hardly meet."""

SELDOM = 1, 20
"""How many percent of the ops start with nothing in flight, if any do: what is rare is an op that
waits for all others."""

NEAR = 5, 50
"""How many percent of the ops go to the cluster of an op in flight."""

HOT = 50, 100
"""How many percent of the ops go to hot spots, if there are any."""

BIG = 1
"""How many percent of the ops are big, if any are: enough for a few in 2,000, and few enough for a
replay of seconds."""

HEAVIEST = 8
"""How much more frequent one kind may be than another."""

PIECES = 1, 16
"""Pieces of data that a disk starts with, if it starts with any: enough for some clusters of each
kind, whole and in part."""

FOUR_KIB = 4096
"""The grain of a disk with physical sectors of 4 KiB."""


@dataclass(frozen=True, slots=True)
class Features:
    """The features of one trace. Shares are percent of the ops that can have the feature."""

    kinds: dict[str, int]
    """By a kind's label, how often ops are of that kind relative to others. No flushes: these have
    a rate of their own."""
    flush_every: int
    """Ops from one flush to the next, on average; 0: no flushes."""
    barriers: int
    restarts: int
    depth: int
    connections: int
    conflicts: bool
    near: int
    """The share that goes to the cluster of an op in flight."""
    quiet: int
    fua: int
    no_hole: int
    fast_zero: int
    zeroes: int
    grain: int
    """Offsets and lengths are multiples of it, in bytes."""
    cluster: int
    spots: tuple[int, ...]
    """Hot spots: bytes at which clusters begin."""
    hot: int
    whole: int
    spanning: int
    big: int
    longest_data: int
    longest_other: int
    data_per_op: int
    start: int
    """Pieces of data that the disk starts with."""


def draw(profile: Profile, size: int, dice: Dice) -> Features:
    """Draw the features of a trace on a disk of ``size`` bytes."""

    def share(probability: float, between: tuple[int, int] = SHARE) -> int:
        return dice.between(*between) if dice.chance(probability) else 0

    kinds = {
        label: dice.spread(1, HEAVIEST)
        for label, probability in (
            (Kind.WRITE.label, profile.write),
            (Kind.READ.label, profile.read),
            (Kind.ZERO.label, profile.zero),
            (Kind.TRIM.label, profile.trim),
            (Kind.CACHE.label, profile.cache),
            (Kind.BLOCK_STATUS.label, profile.block_status),
        )
        if dice.chance(probability)
    }
    grain = 1 if dice.chance(profile.unaligned) else dice.pick((SECTOR, SECTOR, FOUR_KIB))
    cluster = max(dice.pick(profile.clusters), grain)
    flushes = dice.chance(profile.flush)
    depth = dice.spread(*profile.depth)
    return Features(
        kinds=kinds or {Kind.WRITE.label: 1},
        flush_every=dice.spread(*profile.flush_every) if flushes else 0,
        barriers=share(profile.barriers),
        restarts=dice.between(*profile.restarts),
        depth=depth,
        connections=dice.between(*profile.connections),
        conflicts=depth > 1 and dice.chance(profile.conflicts),
        near=dice.between(*NEAR),
        quiet=share(profile.quiet, SELDOM),
        fua=share(profile.fua),
        no_hole=share(profile.no_hole),
        fast_zero=share(profile.fast_zero),
        zeroes=share(profile.zeroes),
        grain=grain,
        cluster=cluster,
        spots=tuple(_spot(size, cluster, dice) for _ in range(dice.between(*profile.spots))),
        hot=share(profile.hot, HOT),
        whole=share(profile.whole),
        spanning=share(profile.spanning),
        big=share(profile.big, (BIG, BIG)),
        longest_data=profile.longest_data,
        longest_other=profile.longest_other,
        data_per_op=profile.data_per_op,
        start=dice.between(*PIECES) if dice.chance(profile.start) else 0,
    )


def _spot(size: int, cluster: int, dice: Dice) -> int:
    """Return where a cluster begins: the first one, the last one, any, or one at a power of two."""
    last = (size - 1) // cluster
    match dice.below(4):
        case 0:
            return dice.pick((0, last)) * cluster
        case 1:
            return dice.between(0, last) * cluster
        case _:
            return min(last, 1 << dice.below(max(1, last.bit_length()))) * cluster
