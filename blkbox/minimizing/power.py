"""Faults that only a power cut shows: how a candidate is looked at, and what the whole trace
shows."""

from dataclasses import dataclass, replace
from pathlib import Path

from blkbox.judging.signs import Sign
from blkbox.minimizing.trial import Seen
from replay.below.found import PowerCut
from replay.below.powercut import CutOptions, powercut
from replay.below.recorded import Through, run_logged
from replay.options import ReplayOptions
from replay.outcome import Stage
from tracer.disk.private import PrivateFolder, Use
from tracer.errors import DriverHung, Undecidable
from tracer.trace.data import TraceWithData
from tracer.verdict import Finding, Suspect, SymptomKind, Verdict, VerdictKind

STATES = 400
"""The most crash states of a candidate that are judged. A few ops have no more."""

FAILING = 5
"""Failing states of a candidate that are enough to see what damaged sectors hold."""

SECONDS = 20.0
"""Seconds that these may take."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Candidates are run once, and the power is cut at many moments of that run."""

    options: ReplayOptions
    cache: str | None = None
    through: Through | None = None
    states: int | None = STATES
    seconds: float = SECONDS

    def look(self, trace: Path, last: Stage = Stage.REOPENED) -> Seen:
        try:
            found = self.cut(trace)
        except (Undecidable, DriverHung) as error:
            return Seen((), 0, str(error))
        return Seen(tuple({sign_of_cut(found)} if found.faults else ()), found.ops)

    def cut(self, trace: Path) -> PowerCut:
        """Run a trace and cut the power. Raises as ``replay.below.powercut``."""
        with PrivateFolder(Use.REPLAY) as folder, TraceWithData(trace) as source:
            options = replace(self.options, work=folder.path, keep=False)
            run = run_logged(source, options, self.cache, self.through)
            cutting = CutOptions(
                seconds=self.seconds, states=self.states, enough=FAILING, shrinks=False
            )
            return powercut(source, run, cutting, folder.path, source.trace.header.size)


def sign_of_cut(found: PowerCut) -> Sign:
    """Return what power cuts have shown, without places: what damaged sectors hold, whether an
    image does not open, and whether its check finds what it must not."""
    holds = {one.holds.value for fault in found.faults for one in fault.damage}
    holds |= {"unopenable" for fault in found.faults if fault.opens is not None}
    holds |= {"check" for fault in found.faults if fault.check is not None}
    return Sign(VerdictKind.DAMAGED, SymptomKind.REOPEN, frozenset(holds))


def verdict_of_cut(found: PowerCut, size: int) -> Verdict:
    """Return what power cuts have shown as the verdict from which a minimisation starts: the ops
    in flight at the first failing state are its suspects. A driver that is wrong without a power
    cut says nothing of power cuts."""
    faults = found.faults[:1]
    verdict, reason = found.verdict, found.reason
    if verdict is VerdictKind.FAILED and not faults:
        verdict, reason = VerdictKind.UNDECIDABLE, f"{reason}: minimise that without --power"
    last = [max(fault.in_flight) for fault in faults if fault.in_flight]
    last += [fault.promise.seq for fault in faults if fault.promise is not None]
    promised = "no promise is broken" if not faults else "a power cut loses what was flushed"
    return Verdict(
        verdict=verdict,
        reason=reason or promised,
        driver=found.driver,
        trace=found.trace,
        size=size,
        ops=found.ops,
        replayed_ops=found.ops,
        runs=1,
        symptom=SymptomKind.REOPEN if faults else None,
        suspects=[Suspect(seq=max(last), kind="", offset=0, length=0, followed=1, in_flight=[])]
        if last
        else [],
        damage=[
            Finding(sector=one.sector, sectors=one.sectors)
            for fault in faults
            for one in fault.damage
        ],
        culprit_damage=[],
    )
