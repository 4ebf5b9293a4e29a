"""What is not quite in order, put in order."""

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


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
