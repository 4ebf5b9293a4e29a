"""The outcome of one run: what differed while ops were played, and what was wrong afterwards.

The player makes an Outcome. The runner adds what it finds once the ops are done.
"""

from dataclasses import dataclass, field
from pathlib import Path

from tracer.mirror.comparison import Comparison
from tracer.mirror.difference import Difference
from tracer.mirror.evidence import Evidence
from tracer.mirror.found import Sweep
from tracer.op import SECTOR, Op
from tracer.ranges import RangeSet


@dataclass(frozen=True, slots=True)
class Saved:
    """Both images after the first ``position`` ops, with nothing wrong. A run can start here."""

    position: int
    folder: Path
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run showed. A position is an op's place in the order of submission, from 0."""

    # while ops were played

    replayed: int = 0
    """Ops sent to the driver."""
    started: int = 0
    """How many of the trace's ops were sent, were skipped, or were done before this run."""
    faults: tuple[tuple[int, Difference], ...] = ()
    """The op's position and what differed, in the order seen: at most one difference per op."""
    bad_reads: RangeSet = field(default_factory=RangeSet)
    """The byte ranges that reads returned wrong."""
    first_bad_read: tuple[int, Difference] | None = None
    """The position of the first read, in the order of submission, that returned wrong data, and
    what differed."""
    lost: tuple[int, Op] | None = None
    """The position of the oldest op in flight when the driver went away, and the op."""
    hung: tuple[int, Op] | None = None
    """The position of the op that was not answered in time, and the op."""
    wrong_at: int | None = None
    """How many ops were done when a probe first found its sectors wrong."""

    # once the ops were done

    live: Sweep | None = None
    """The comparison of the images while the driver still served."""
    reopened: Sweep | None = None
    """The comparison of the images after the driver was stopped and started again. None if that was
    not done, or if the driver keeps nothing over a restart."""
    stop: str | None = None
    """What went wrong when the driver stopped, or started again."""
    check: str | None = None
    """What the check command found wrong."""
    gone: str | None = None
    """How the driver ended, or hung, before it was asked to stop."""
    reader: str | None = None
    """The build that reopened the image, if another than the driver."""
    saved: Saved | None = None
    """The images, if the run had to save them and nothing was wrong."""
    log: str = ""
    """The tail of what the driver wrote to stderr and stdout."""

    @property
    def clean(self) -> bool:
        """Whether nothing was wrong."""
        return not (
            self.faults or self.lost or self.hung or self.gone or self.stop or self.check
        ) and all(sweep is None or sweep.clean for sweep in (self.live, self.reopened))

    def damage(self) -> RangeSet:
        """Return every byte range that was seen wrong, or that block status calls zeroes wrongly,
        extended to whole sectors."""
        found = self.bad_reads.aligned(SECTOR)
        for sweep in (self.live, self.reopened):
            if sweep is not None:
                for start, end in (*sweep.damage, *sweep.false_holes):
                    found.add(start, end)
        return found

    def evidence(self) -> list[Evidence]:
        """Return the wrong bytes of the live image, or of the reopened image if the live image is
        right. The amount is limited (tracer/mirror/sweep.py)."""
        for sweep in (self.live, self.reopened):
            if sweep is not None and sweep.evidence:
                return sorted(sweep.evidence, key=lambda piece: piece.offset)
        return []
