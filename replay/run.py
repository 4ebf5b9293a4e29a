"""A run of a trace: which ops to play, from where, what to check, and what is sought."""

from dataclasses import dataclass

from replay.cost import Purpose
from replay.options import Order
from replay.outcome import Outcome, Saved, Stage
from replay.player import Probe
from replay.symptom import Symptom, again


class OutOfTime(Exception):
    """The search has used up its time. The run is lost; what earlier runs showed survives."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: which ops to play, from where, and what to check.

    A run ends after the first stage that shows what is sought: the symptom ``sign``, or anything
    wrong if that is None.
    """

    label: str
    """The name of the run and of its folder."""
    order: Order
    upto: int
    """Play the trace's first ``upto`` ops."""
    start: Saved | None = None
    """The images to start from; None is fresh images. The ops that they hold are not played."""
    save: bool = False
    """Whether to save the images if nothing is wrong and they can be saved."""
    probe: Probe | None = None
    """What to read while playing."""
    last: Stage = Stage.REOPENED
    """The last stage of the run."""
    sign: Symptom | None = None
    """The symptom that is sought. Only its damaged ranges are compared."""
    everything: bool = False
    """Compare everything, and go on to the last stage whatever is wrong before."""
    twice: bool = False
    """Whether a live comparison that finds damage is repeated, and only what is wrong again counts:
    a read that goes wrong once is no damage to the image."""
    flush: bool = True
    """Whether the disk is flushed at the end. Otherwise the reopened image may lack what no op of
    the trace made durable."""
    stop_early: bool = False
    """Whether the run ends at the first difference."""
    purpose: Purpose = Purpose.SEARCH
    deadline: float | None = None
    """When the search must end, by the monotonic clock."""

    @property
    def first(self) -> int:
        """How many ops are skipped at the front."""
        return self.start.position if self.start is not None else 0

    def is_over(self, outcome: Outcome) -> bool:
        """Return whether the run has shown what is sought, has reached its last stage, or can go no
        further."""
        last = max(self.last, Stage.CHECKED) if self.save else self.last
        if outcome.ended_at is not None or outcome.gone or outcome.hung or outcome.stage >= last:
            return True
        if self.stop_early and not outcome.clean:
            return True
        if self.everything:
            return False
        return self.shows(outcome)

    def shows(self, outcome: Outcome) -> bool:
        """Return whether an outcome of this run shows what is sought."""
        if self.sign is None:
            return not outcome.clean
        return again(self.sign, outcome, self.upto) is not None
