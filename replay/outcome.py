"""What came of one run of a trace: what differed while ops were played, and what was wrong after.

The player makes an Outcome of what it saw; the runner adds what it finds once the ops are done.
"""

from dataclasses import dataclass, field
from pathlib import Path

from tracer.mirror.comparison import Comparison
from tracer.mirror.difference import Difference
from tracer.mirror.evidence import Evidence
from tracer.mirror.sweep import Sweep
from tracer.op import SECTOR, Op
from tracer.ranges import RangeSet


@dataclass(frozen=True, slots=True)
class Saved:
    """Both images after the first ``position`` ops, with nothing wrong: a run can start here."""

    position: int
    folder: Path
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run. Positions count ops in the order of submission, from 0."""

    # while ops were played

    replayed: int = 0
    """Ops that were sent to the driver."""
    started: int = 0
    """As many of the trace's ops have been sent, or skipped, or were done before this run."""
    faults: tuple[tuple[int, Difference], ...] = ()
    """What differed, in the order seen: at most one difference per op, with the op's position."""
    bad_reads: RangeSet = field(default_factory=RangeSet)
    """Bytes that reads returned wrong."""
    first_bad_read: tuple[int, Difference] | None = None
    """The first read, in the order of submission, that returned wrong data, and its position."""
    lost: tuple[int, Op] | None = None
    """The oldest op in flight when the driver went away, and its position."""
    hung: tuple[int, Op] | None = None
    """The op that was not answered in time, and its position."""
    wrong_at: int | None = None
    """After how many ops a probe first found its sectors wrong."""

    # once the ops were done

    live: Sweep | None = None
    """The images compared while the driver still served."""
    reopened: Sweep | None = None
    """The images compared after the driver was stopped and started again; None where that was not
    done, or says nothing because the driver keeps nothing over a restart."""
    stop: str | None = None
    """What was wrong with how the driver stopped, or started again."""
    check: str | None = None
    """What the check command found."""
    gone: str | None = None
    """How the driver ended, or hung, before it was asked to stop."""
    reader: str | None = None
    """The build that the image was reopened with, where that is not the driver."""
    saved: Saved | None = None
    """The images, where the run was asked to save them and nothing was wrong."""
    log: str = ""
    """The tail of what the driver wrote to stderr and stdout."""

    @property
    def clean(self) -> bool:
        """Whether nothing at all was wrong."""
        return not (
            self.faults or self.lost or self.hung or self.gone or self.stop or self.check
        ) and all(one is None or one.clean for one in (self.live, self.reopened))

    def damage(self) -> RangeSet:
        """Every byte range that was seen wrong, in whole sectors."""
        found = self.bad_reads.aligned(SECTOR)
        for one in (self.live, self.reopened):
            for start, end in one.damage if one is not None else ():
                found.add(start, end)
        return found

    def evidence(self) -> list[Evidence]:
        """What the images held where they are wrong now: of the live one if that is wrong, else of
        the reopened one. Not all of it where it is very much (tracer/sweep.py)."""
        for one in (self.live, self.reopened):
            if one is not None and one.evidence:
                return sorted(one.evidence, key=lambda piece: piece.offset)
        return []
