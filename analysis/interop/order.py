"""Puts items in order that are nearly in order."""

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def nearly_sorted(items: Iterable[Item], window: int, key: Callable[[Item], int]) -> Iterator[Item]:
    """Yield items in the order of their keys if none is more than ``window`` places too late.

    Items that are later than that stay out of order. Memory: the items of the window.
    """
    heap: list[tuple[int, int, Item]] = []
    for number, item in enumerate(items):  # items with equal keys keep their order
        heapq.heappush(heap, (key(item), number, item))
        if len(heap) > window:
            yield heapq.heappop(heap)[2]
    while heap:
        yield heapq.heappop(heap)[2]
