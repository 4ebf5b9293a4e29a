"""Random choices that are the same on every machine and in every version of Python.

Of ``random.Random``, only ``random()`` and what it seeds from an integer are promised to stay as
they are, and ``getrandbits()`` has the same source. So nothing else of it is used, and no function
of libm, whose last bit differs from machine to machine.
"""

from collections.abc import Sequence
from random import Random
from typing import TypeVar

Item = TypeVar("Item")


class Dice:
    """A stream of random choices that depends on the seed alone, which is 0 or above."""

    def __init__(self, seed: int) -> None:
        random = Random(seed)
        self._bits = random.getrandbits
        self._random = random.random

    def below(self, count: int) -> int:
        """Return a number from 0 to ``count`` - 1."""
        width = (count - 1).bit_length()
        while (number := self._bits(width)) >= count:
            pass
        return number

    def between(self, first: int, last: int) -> int:
        """Return a number from ``first`` to ``last``."""
        return first + self.below(last - first + 1)

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self._random() < probability

    def percent(self, share: int) -> bool:
        """Return True ``share`` times in a hundred."""
        return self.below(100) < share

    def pick(self, items: Sequence[Item]) -> Item:
        """Return one of the items."""
        return items[self.below(len(items))]

    def weighted(self, weights: dict[Item, int]) -> Item:
        """Return one of the keys, each as often as its weight says."""
        number = self.below(sum(weights.values()))
        for item, weight in weights.items():
            if number < weight:
                return item
            number -= weight
        raise AssertionError("the weights add up to more than there is")

    def spread(self, first: int, last: int) -> int:
        """Return a number from ``first`` to ``last``, small ones more often: each power of two has
        the same share."""
        most = last - first + 1
        power = 1 << self.below(most.bit_length())
        return first + min(most, power + self.below(power)) - 1

    def around(self, most: int) -> int:
        """Return a number from 1 to ``most``, often a power of two or a neighbour of one: this is
        where programs go wrong."""
        power = 1 << self.below(most.bit_length())
        number = self.pick((power, power - 1, power + 1, power + self.below(power)))
        return max(1, min(most, number))
