"""What is not quite in order, put in order."""

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tracer.op import Op

Item = TypeVar("Item")


def by_submission(ops: Iterable[Op]) -> Iterator[Op]:
    """A trace's ops by seq: the file has them as they completed. Takes memory for those that were in
    flight together."""
    waiting: dict[int, Op] = {}
    expected = 0
    for op in ops:
        waiting[op.seq] = op
        while expected in waiting:
            yield waiting.pop(expected)
            expected += 1
    for seq in sorted(waiting):  # behind one that was in flight when the recorder was killed
        yield waiting[seq]


def nearly_sorted(items: Iterable[Item], window: int, key: Callable[[Item], int]) -> Iterator[Item]:
    """Items by their key, where none stands more than ``window`` places too late; else as well as that
    allows. Takes memory for the window."""
    heap: list[tuple[int, int, Item]] = []
    for number, item in enumerate(items):  # equal keys stay in the order in which they come
        heapq.heappush(heap, (key(item), number, item))
        if len(heap) > window:
            yield heapq.heappop(heap)[2]
    while heap:
        yield heapq.heappop(heap)[2]
