"""What a comparison of two images reads: the user's choice, and a sample of places."""

import random
from bisect import bisect_right
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

from tracer.mirror.touched import GRAIN
from tracer.ranges import RangeSet

MUCH = 256 << 20
"""Bytes that a comparison reads beyond what was touched: about 0.2 s on a fast driver. A disk with
no more than this beyond is read whole."""

SAMPLES = 64
"""Reads of a grain each, where nothing says that there is data. They find damage to a tenth of the
disk with a chance of 99.9 %, and cost nothing. A single lost sector they will not find, nor would
ten times as many."""

DATA_SAMPLES = 512
"""Reads of a grain each among what the driver calls data, if that is too much to read: it may be
the whole disk (vhdx)."""

WALK_TIME = 2.0
"""Seconds that a walk over the driver's block status may take. qcow2 takes 0.3 s for 15 TiB, vmdk
40 s for 2 TiB."""

READ_TIME = 2.0
"""Seconds that the reads beyond what was touched may take, the sample apart."""

THOROUGH = 16
"""How much more of all that a thorough comparison does."""


class Compare(StrEnum):
    """What a comparison reads."""

    TOUCHED = "touched"
    """What ops came to, what either side calls data, and a sample of the rest."""
    WHOLE = "whole"
    """Every byte."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a comparison reads, as the user or a search wants it."""

    compare: Compare = Compare.TOUCHED
    thorough: bool = False
    """Whether to read more beyond what was touched."""
    seed: int = 0
    """Selects the places of the sample."""
    only: RangeSet | None = None
    """Compare these bytes, and the block status of these bytes, and nothing else."""

    @property
    def effort(self) -> int:
        """The factor for all limits."""
        return THOROUGH if self.thorough else 1

    def leaves_noise(self, size: int) -> bool:
        """Whether new images of a disk of ``size`` bytes may hold noise: writing zeroes to all of
        it would cost more than the comparison."""
        return self.compare is Compare.TOUCHED and size > MUCH * self.effort


USUAL = Scope()


def sample(among: RangeSet, count: int, seed: int) -> RangeSet:
    """Return ``count`` grains of a set, or all of it if it has no more. The choice depends on the
    arguments alone. The set's ranges begin at multiples of GRAIN."""
    starts = [start for start, _ in among]
    ends = list(accumulate(-(-(end - start) // GRAIN) for start, end in among))
    if not ends or ends[-1] <= count:
        return among
    chosen = RangeSet()
    for number in sorted(random.Random(seed).sample(range(ends[-1]), count)):
        index = bisect_right(ends, number)
        at = starts[index] + (number - (ends[index - 1] if index else 0)) * GRAIN
        chosen.add(at, at + GRAIN)
    return chosen
