"""What a crash state showed, and what a result says of it if it fails."""

from dataclasses import dataclass

from replay.below.bytes_of import Origins
from replay.below.found import Fault, GuestOp, Lower
from replay.below.judge import Judged, newest_promise
from replay.below.promises import Promises
from replay.below.recorded import LowerRun
from replay.below.states.points import Crash, Points
from tracer.below.op import LowerKind
from tracer.below.qcow2 import Structures
from tracer.op import SECTOR

MAX_PRESENT = 100
"""The most lower ops that a fault lists as being on the disk without having to: the last."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a state showed."""

    judged: Judged
    opens: str | None = None
    """Why the image does not open."""
    repaired: bool = False
    """Whether it was repaired first."""
    checked: bool = False
    """Whether the check command ran."""
    says: str | None = None
    """What that says, if it does not say that all is well."""
    check: str | None = None
    """The same, if it says what it never must of this format."""

    @property
    def damaged(self) -> bool:
        """Whether data is lost, or what is not the sector's own shows up."""
        return self.opens is not None or bool(self.judged.broken)

    @property
    def fails(self) -> bool:
        """Whether anything is wrong."""
        return self.damaged or self.check is not None

    def is_like(self, other: "Seen") -> bool:
        """Whether another state shows the same fault: some of the same sectors, if any."""
        if self.opens is not None:
            return other.opens is not None
        if self.judged.broken:
            return any(self.judged.broken.overlaps(*part) for part in other.judged.broken)
        return other.check is not None


class Reporter:
    """Makes the faults of a result."""

    def __init__(self, run: LowerRun, promises: Promises, points: Points) -> None:
        self._promises = promises
        self._points = points
        self._origins = Origins(promises)
        self._structures = Structures(run.image)

    def fault(
        self, number: int, crash: Crash, seen: Seen, *, shrunk: bool, image: str | None
    ) -> Fault:
        """Return what a result says of a state that fails."""
        broken = seen.judged.broken
        change = None
        for start, end in broken:
            for sector in range(start // SECTOR, end // SECTOR):
                change = newest_promise(self._promises, sector, crash.point)
                if change is not None:
                    break
            if change is not None:
                break
        return Fault(
            state=number,
            point=crash.point,
            last=self._lower(crash.point - 1) if crash.point else None,
            missing=[self._lower(one) for one in sorted(crash.missing)],
            present=[
                self._lower(one)
                for one in self._points.open(crash.point)
                if one not in crash.missing
            ][-MAX_PRESENT:],
            torn=crash.torn,
            in_flight=self._promises.in_flight(crash.point),
            promise=GuestOp.of(change.promise) if change and change.promise else None,
            wrote=GuestOp.of(change.op) if change else None,
            damage=self._origins.damage(seen.judged.evidence),
            opens=seen.opens,
            check=seen.check,
            repaired=seen.repaired,
            shrunk=shrunk,
            image=image,
        )

    def _lower(self, number: int) -> Lower:
        op = self._points.ops[number]
        moves = op.kind not in (LowerKind.FLUSH, LowerKind.TRUNCATE)
        return Lower.of(op, self._structures.name(op.offset) if moves else None)
