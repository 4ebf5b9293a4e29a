"""What a comparison of two images found."""

import errno
from dataclasses import dataclass, field

from tracer.candidates.evidence import Evidence
from tracer.disk.device import CONNECTION_LOST
from tracer.mirror.difference import Difference
from tracer.op import SECTOR, Fault, sectors
from tracer.ranges import RangeSet
from tracer.verdict import Compared

MAX_EVIDENCE = 64 << 20
"""The most bytes of damaged sectors to keep. With the expected bytes they take twice the memory."""

MAX_HOLES = 10_000
"""The most false holes to keep: a driver whose block status is wrong may have one per cluster."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A question of ours that the driver did not answer."""

    question: str
    """``a read of the image at sector 8``"""
    error: int
    """CONNECTION_LOST, ETIMEDOUT if no answer came in time, or the errno that the driver gave."""

    @property
    def is_answer(self) -> bool:
        """Whether the driver answered, with an error."""
        return self.error not in (CONNECTION_LOST, errno.ETIMEDOUT)

    def __str__(self) -> str:
        if self.error == CONNECTION_LOST:
            return f"the connection was lost during {self.question}"
        if self.error == errno.ETIMEDOUT:
            return f"the driver did not answer {self.question} in time"
        return f"{self.question} failed ({errno.errorcode.get(self.error, self.error)})"


@dataclass(slots=True)
class Sweep:
    """The result of comparing two images. Ranges are in bytes, sector-aligned."""

    damage: RangeSet = field(default_factory=RangeSet)
    """What reads wrong, or cannot be read."""
    wrong: Difference | None = None
    """The difference with the lowest offset in ``damage``."""
    false_holes: RangeSet = field(default_factory=RangeSet)
    """What reads right, though block status calls it zeroes and it is not."""
    hole: Difference | None = None
    """The first of ``false_holes``."""
    evidence: list[Evidence] = field(default_factory=list)
    """The bytes of ``damage`` and ``false_holes``, up to about MAX_EVIDENCE bytes."""
    failed: Failed | None = None
    """What the driver did not answer. A lost connection or a lack of answers ends a comparison."""
    compared: Compared | None = None
    """What was compared how. None if the comparison did not get to its end."""
    read: int = 0
    """Bytes that were compared so far."""
    _kept: int = 0  # bytes of evidence

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return self.first is None and self.failed is None

    @property
    def first(self) -> Difference | None:
        """What to show: wrong data, otherwise a false hole."""
        return self.wrong or self.hole

    def differs(self, start: int, good: bytes, bad: bytes) -> None:
        """Note bytes of the image, from ``start`` on, that are not what they should be."""
        difference = Difference(None, Fault.FINAL, start, len(good), expected=good, actual=bad)
        self._damaged(start, start + len(good), difference)
        self._keep(start, good, bad)

    def unreadable(self, start: int, end: int, error: int) -> None:
        """Note a part of the image that the driver fails to read."""
        length = end - start
        self._damaged(start, end, Difference(None, Fault.STATUS, start, length, 0, error))

    def calls_zeroes(self, start: int, data: bytes) -> None:
        """Note data that block status calls zeroes, unless it reads wrong too."""
        for first, last in self.damage.outside(start, start + len(data)):
            if len(self.false_holes) >= MAX_HOLES:
                return
            good = data[first - start : last - start]
            zeroes = bytes(len(good))
            touched = sectors(first, last)
            self.false_holes.add(touched.start * SECTOR, touched.stop * SECTOR)
            if self.hole is None:
                self.hole = Difference(
                    None, Fault.BLOCK_STATUS, first, len(good), expected=good, actual=zeroes
                )
            self._keep(first, good, zeroes)

    def _damaged(self, start: int, end: int, difference: Difference) -> None:
        touched = sectors(start, end)
        self.damage.add(touched.start * SECTOR, touched.stop * SECTOR)
        if self.wrong is None or start < self.wrong.offset:
            self.wrong = difference

    def _keep(self, start: int, good: bytes, bad: bytes) -> None:
        if self._kept < MAX_EVIDENCE:
            self.evidence.append(Evidence(start, good, bad))
            self._kept += len(good)
