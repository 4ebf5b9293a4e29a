"""What power cuts showed: the result that ``trace powercut`` prints, as text or as JSON."""

from dataclasses import dataclass, field
from enum import StrEnum

from tracer.below.op import LowerOp
from tracer.op import KIND_BY_NUMBER, Op, flag_names
from tracer.verdict import VerdictKind


@dataclass(frozen=True, slots=True)
class GuestOp:
    """A guest op that a result names. ``offset`` and ``length`` are bytes."""

    seq: int
    kind: str
    offset: int
    length: int
    flags: list[str]

    @classmethod
    def of(cls, op: Op) -> "GuestOp":
        """Return what a result says of an op."""
        kind = KIND_BY_NUMBER[op.kind].label
        return cls(op.seq, kind, op.offset, op.length, flag_names(op.flags))


@dataclass(frozen=True, slots=True)
class Lower:
    """A lower op that a result names. ``offset`` and ``length`` are bytes of the image file."""

    number: int
    kind: str
    offset: int
    length: int
    structure: str | None = None
    """What it writes to in a qcow2 image, as that is at the end of the run (``L2 table``)."""

    @classmethod
    def of(cls, op: LowerOp, structure: str | None = None) -> "Lower":
        """Return what a result says of a lower op."""
        return cls(op.number, op.kind.label, op.offset, op.length, structure)

    def text(self) -> str:
        """Say it in words."""
        where = f" of {self.length} B at byte {self.offset}"
        if self.structure is not None:
            where += f" ({self.structure})"
        if self.kind == "flush":
            where = ""
        elif self.kind == "truncate":
            where = f" to {self.length} B"
        return f"lower op {self.number}, {self.kind}{where}"


RUN = "run.lower"
"""The lower ops in a folder of kept images."""


class Holds(StrEnum):
    """What a damaged sector holds."""

    ZEROES = "zeroes"
    OLD = "old"
    """What an earlier op wrote there."""
    OTHER_SECTOR = "other-sector"
    """What an op wrote to another sector."""
    UNKNOWN = "unknown"
    """What no op wrote."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Sectors that hold what they must not: of OLD and OTHER_SECTOR, what op ``seq`` wrote to the
    sectors from ``source`` on."""

    sector: int
    sectors: int
    holds: Holds
    seq: int | None = None
    source: int | None = None

    @property
    def end(self) -> int:
        """The sector after the last."""
        return self.sector + self.sectors

    def goes_on_with(self, other: "Damage") -> bool:
        """Whether another range, right behind, holds what follows."""
        follows = self.source is None or self.source + self.sectors == other.source
        return self.holds is other.holds and self.seq == other.seq and follows

    def text(self) -> str:
        """Say it in words."""
        last = self.sector + self.sectors - 1
        where = f"sector {last}" if self.sectors == 1 else f"sectors {self.sector} to {last}"
        verb = "holds" if self.sectors == 1 else "hold"
        match self.holds:
            case Holds.ZEROES:
                what = "zeroes"
            case Holds.OLD:
                what = f"old data, of #{self.seq}"
            case Holds.OTHER_SECTOR:
                what = (
                    f"data of other sectors, which #{self.seq} wrote from sector {self.source} on"
                )
            case Holds.UNKNOWN:
                what = "bytes that no op wrote"
        return f"{where} {verb} {what}"


@dataclass(frozen=True, slots=True)
class Fault:
    """A crash state that breaks a promise."""

    state: int
    """Its number: with the same lower ops and seed, it is the same state."""
    point: int
    """How many lower ops were issued."""
    last: Lower | None
    """The last of them."""
    missing: list[Lower]
    """Those that are not on the disk."""
    present: list[Lower]
    """Those that are on the disk and that no completed lower flush covers: the last of them."""
    torn: int | None
    """Of the last lower op, only so many bytes are on the disk; None: all of it."""
    in_flight: list[int]
    """The guest's changes in flight, by seq."""
    promise: GuestOp | None
    """The flush, or the op with FUA, whose promise is broken."""
    wrote: GuestOp | None
    """The op whose data had to survive."""
    damage: list[Damage]
    opens: str | None
    """Why the image does not open; None: it does."""
    check: str | None
    """What the check command says, if it never must of this format."""
    repaired: bool
    """Whether the image was repaired before it was read, as its format prescribes."""
    shrunk: bool
    """Whether no lower op can be put back without the damage going away."""
    image: str | None = None
    """The kept image."""

    @property
    def kind(self) -> object:
        """What tells it from faults of another kind."""
        wrote, promise = self.wrote, self.promise
        holds = self.damage[0].holds if self.damage else None
        return wrote and wrote.seq, promise and promise.seq, self.opens, holds, self.check


@dataclass(frozen=True, slots=True)
class CheckFound:
    """What the check command says of images as the power cut left them: a finding of its own."""

    says: str
    """How it ended, and its first line."""
    states: int
    first: int
    """The number of the first such state."""


@dataclass(frozen=True, slots=True)
class Later:
    """A crash state that holds what it must, after which the rest of the trace goes wrong."""

    state: int
    first: int
    """The number of guest ops that were not run again: those before the power cut."""
    reason: str
    image: str | None = None
    """The kept image, as the power cut left it."""


@dataclass(frozen=True, slots=True)
class PowerCut:
    """The result. Counts are of crash states unless they say otherwise."""

    verdict: VerdictKind
    trace: str
    driver: str
    cache: str
    through: str
    """How the lower ops were seen."""
    reason: str | None
    ops: int = 0
    """Guest ops that were run."""
    lower: dict[str, int] = field(default_factory=dict)
    """Lower ops of each kind."""
    points: int = 0
    states: int = 0
    """All states of all points; images that are the same count each time."""
    tried: int = 0
    distinct: int = 0
    """Of those that were tried, how many differ in their image or in what it was to hold."""
    judged: int = 0
    """How many images were opened and read, those for shrinking left out."""
    shrinking: int = 0
    """How many more were opened to shrink failing states."""
    damaged: int = 0
    broken: int = 0
    """States that hold what they must, but of which the check says what it never must."""
    repaired: int = 0
    """How many were repaired before they were read, as their format prescribes."""
    seconds: float = 0.0
    """What judging took."""
    complete: bool = False
    """Whether all states were tried."""
    interrupted: str | None = None
    """The signal that ended it early."""
    seed: int = 0
    faults: list[Fault] = field(default_factory=list)
    """Failing states with different broken promises, the first of each kind."""
    checks: list[CheckFound] = field(default_factory=list)
    continued: int = 0
    """States after which the rest of the trace was run."""
    later: list[Later] = field(default_factory=list)
    """Those after which that went wrong."""
    checked: int = 0
    """How many images the check command saw."""
