"""Which crash states are judged, if not all: a sample, in batches of ascending states."""

import random
from collections.abc import Iterable, Iterator
from itertools import islice

from replay.below.states.points import Points

BATCH = 128
"""States in a batch. They come in ascending order, since building an image goes forward; each batch
begins anew, which takes as long as writing the log."""


def batches(
    points: Points, flushed: Iterable[int], seed: int, *, all_: bool
) -> Iterator[list[int]]:
    """Yield numbers of states, each once, in batches of ascending order.

    ``flushed`` are the points at which something was promised anew: these come first. With
    ``all_``, all states come in one batch.
    """
    total = points.states
    if all_:
        yield list(range(total))
        return
    chance = random.Random(seed)
    done: set[int] = set()
    plain = _plain(points, flushed, chance)
    batch: list[int] = []
    for number in _in_turn(plain, _others(total, done, chance)):
        if number in done:
            continue
        done.add(number)
        batch.append(number)
        if len(batch) == BATCH:
            yield sorted(batch)
            batch = []
    if batch:
        yield sorted(batch)


def _in_turn(first: Iterator[int], second: Iterator[int]) -> Iterator[int]:
    """Yield from both in turn, two of the first for one of the second."""
    while True:
        found = [*islice(first, 2), *islice(second, 1)]
        if not found:
            return
        yield from found


def _plain(points: Points, flushed: Iterable[int], chance: random.Random) -> Iterator[int]:
    """Yield the plainest states, in which nothing is missing, or all that may be: at the points
    after promises first, then at all others, in random order. The second kind is often the same
    image as at the point before, and then costs little."""
    promised = sorted(set(flushed))
    others = list(set(range(points.count)).difference(promised))
    chance.shuffle(promised)
    chance.shuffle(others)
    for point in (*promised, *others):
        yield points.number(point, 0)
        if points.states_at(point) > 1:
            yield points.number(point, 1)


def _others(total: int, done: set[int], chance: random.Random) -> Iterator[int]:
    """Yield all states that are not done, in random order. While most are left, drawing is cheaper
    than a list."""
    while len(done) * 2 < total:
        yield chance.randrange(total)
    left = [number for number in range(total) if number not in done]
    chance.shuffle(left)
    yield from left
