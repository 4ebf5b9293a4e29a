"""The outcome of one run: what differed while ops were played, and what was wrong afterwards.

The player makes an Outcome. The runner adds what it finds once the ops are done.
"""

from dataclasses import dataclass, field
from enum import IntEnum, auto
from pathlib import Path

from tracer.candidates.durable import Unflushed
from tracer.candidates.evidence import Evidence
from tracer.mirror.comparison import Comparison
from tracer.mirror.difference import Difference
from tracer.mirror.found import Sweep
from tracer.op import SECTOR, Op
from tracer.ranges import RangeSet
from tracer.verdict import Compared


class Stage(IntEnum):
    """The stages of a run, in their order, as at a guest's shutdown."""

    PLAYED = auto()
    """The ops are done."""
    LIVE = auto()
    """The images are compared while the driver serves."""
    FLUSHED = auto()
    """The disk is flushed, and the images are compared again."""
    CHECKED = auto()
    """The driver is stopped, and its check command has run."""
    REOPENED = auto()
    """The driver is started again, and the images are compared."""


@dataclass(frozen=True, slots=True)
class Saved:
    """Both images after the first ``position`` ops. A run can start here."""

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
    wrong: tuple[tuple[int, int], ...] = ()
    """What probes found wrong, in the order seen: how many ops were done, and the first byte of
    the watched range."""
    unflushed: Unflushed = field(default_factory=Unflushed)
    """The changes that a restart may lose."""
    partial: frozenset[int] = frozenset()
    """Changes that failed as the driver may, perhaps after a part of their work."""

    ended_at: int | None = None
    """The position of the op before which the driver was restarted, and something was wrong then:
    ``stop`` or ``check`` says what. The run has ended there."""

    # once the ops were done

    stage: Stage = Stage.PLAYED
    """The stage that the run had reached, or tried to reach, when it ended."""
    live: Sweep | None = None
    """The comparison of the images while the driver still served."""
    flushed: Sweep | None = None
    """The comparison after the disk was flushed. None if all changes were durable before."""
    reopened: Sweep | None = None
    """The comparison of the images after the driver was stopped and started again. None if that was
    not done, or if the driver keeps nothing over a restart."""
    volatile: bool = False
    """Whether the restart kept nothing of what was written."""
    forgot: bool = False
    """Whether the restart lost changes that were not durable, as it may."""
    stop: str | None = None
    """What went wrong when the driver stopped, or started again."""
    check: str | None = None
    """What the check command found wrong."""
    report: str | None = None
    """The first line of a sanitizer's report that the driver printed."""
    gone: str | None = None
    """How the driver ended, or that it did not answer, before it was asked to stop."""
    silent: bool = False
    """Whether ``gone`` means that the driver did not answer a question of ours."""
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
            self.faults
            or self.lost
            or self.hung
            or self.gone
            or self.stop
            or self.check
            or self.report
        ) and all(sweep is None or sweep.clean for sweep in self._sweeps())

    def damage(self) -> RangeSet:
        """Return every byte range that was seen wrong, or that block status calls zeroes wrongly,
        extended to whole sectors."""
        found = self.bad_reads.aligned(SECTOR)
        for sweep in self._sweeps():
            for start, end in (*sweep.damage, *sweep.false_holes) if sweep is not None else ():
                found.add(start, end)
        return found

    def evidence(self) -> list[Evidence]:
        """Return the wrong bytes of the first comparison that found any. The amount is limited
        (tracer/mirror/sweep.py)."""
        for sweep in self._sweeps():
            if sweep is not None and sweep.evidence:
                return sorted(sweep.evidence, key=lambda piece: piece.offset)
        return []

    def compared(self) -> Compared | None:
        """Return what the last comparison of the run read; None if there was none."""
        done = [sweep.compared for sweep in self._sweeps() if sweep is not None]
        return next((compared for compared in reversed(done) if compared is not None), None)

    def _sweeps(self) -> tuple[Sweep | None, ...]:
        return self.live, self.flushed, self.reopened
