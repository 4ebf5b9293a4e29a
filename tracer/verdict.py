"""The model of what a recording or a replay found, and its JSON.

``trace record --json`` prints a ``Recording``, ``trace replay --json`` a ``Verdict``. Screen
output, reports, pictures and frames come from the same objects. docs/verdict.schema.json and
docs/recording.schema.json are generated from this module (see ``verdict_schema``).

Offsets and lengths are bytes, sectors have 512 bytes, times are ns since the trace's start.
"""

import json
import signal
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from tracer.errors import Exit, UsageError
from tracer.html import facts
from tracer.op import SECTOR, sectors
from tracer.text import many, size

SCHEMA = 1
"""The version of the JSON."""

MAX_INT = (1 << 63) - 1
"""The largest number: JSON has no limit, but polars and numpy do."""

Count = Annotated[int, Meta(ge=0, le=MAX_INT)]
Distance = Annotated[int, Meta(ge=-MAX_INT - 1, le=MAX_INT)]

# the pattern does not end with $, which also matches before a line feed
SectorHex = Annotated[str, Meta(pattern=rf"^(?:[0-9a-f]{{2}}){{1,{SECTOR}}}(?![\s\S])")]
"""The bytes of a sector, or of a part of a sector, in hexadecimal."""

BitFlips = Annotated[list[Count], Meta(min_length=2, max_length=2)]
"""The offset of a byte on the disk, and a mask of its wrong bits."""

# ---------------------------------------------------------------- words


class VerdictKind(StrEnum):
    """The verdict on the driver under test. docs/finding-culprits.md has the definitions."""

    CLEAN = "clean"
    DAMAGED = "damaged"
    FAILED = "failed"
    UNDECIDABLE = "undecidable"

    @property
    def exit_code(self) -> Exit:
        """The exit code of a command that ends with this verdict."""
        match self:
            case VerdictKind.CLEAN:
                return Exit.CLEAN
            case VerdictKind.UNDECIDABLE:
                return Exit.UNDECIDABLE
            case _:
                return Exit.BAD_DRIVER


BAD = frozenset({VerdictKind.DAMAGED, VerdictKind.FAILED})
"""The verdicts of a driver with a fault."""


class SymptomKind(StrEnum):
    """The earliest sign of a fault in a replay."""

    READ = "read"
    STATUS = "status"
    BLOCK_STATUS = "block status"
    CRASH = "crash"
    HANG = "hang"
    IMAGE = "image"
    FLUSH = "flush"
    STOP = "stop"
    CHECK = "check"
    REOPEN = "reopen"
    LOG = "log"


class DamageKind(StrEnum):
    """The kind of damage to a sector, as docs/finding-culprits.md defines it."""

    LOST_WRITE = "lost-write"
    STALE = "stale"
    MISDIRECTED = "misdirected"
    TORN = "torn"
    ZEROED = "zeroed"
    BIT_FLIP = "bit-flip"
    SHIFTED = "shifted"
    FOREIGN = "foreign"


class StartKind(StrEnum):
    """How the test image gets the data that the disk starts with."""

    BACKING = "backing"
    """It is the driver's backing file."""
    CONVERTED = "converted"
    """It is converted into the image."""
    WRITTEN = "written"
    """It is written through the driver."""


class FaultName(StrEnum):
    """How the two sides of a recording differed: the names of ``tracer.op.Fault``."""

    DATA = "data"
    STATUS = "status"
    BLOCK_STATUS = "block_status"
    FINAL = "final"
    LOST = "lost"


class SignalName(StrEnum):
    """A signal that interrupts a recording."""

    SIGINT = "SIGINT"
    SIGTERM = "SIGTERM"
    SIGHUP = "SIGHUP"


# ---------------------------------------------------------------- parts


class SectorRange(Struct, frozen=True, kw_only=True):
    """Neighbouring damaged sectors."""

    sector: Count
    sectors: Count

    @property
    def start(self) -> int:
        """The first byte of the range."""
        return self.sector * SECTOR

    @property
    def end(self) -> int:
        """The byte after the range."""
        return (self.sector + self.sectors) * SECTOR


class OpName(Struct, frozen=True, kw_only=True):
    """Which op it is: its number, what it does, and its bytes."""

    seq: Count
    kind: str
    offset: Count
    length: Count


class Origin(OpName, frozen=True, kw_only=True):
    """An op that bytes came from, or should have. They begin at byte ``at`` of the op's data."""

    at: Count


class Detail(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Facts that only some kinds of damage have. The JSON leaves out what is None."""

    boundary: Count | None = None
    """Torn: the offset on the disk at which the second part begins, in bytes."""
    into_op: Count | None = None
    """Torn: the op's bytes before the boundary."""
    power_of_two: Count | None = None
    """Torn: the largest power of two that divides the boundary."""
    arrived: str | None = None
    """Torn: which part arrived, "first" or "last"."""
    room: Count | None = None
    """Torn: the length of the range in which the boundary may lie, if that is more than a sector,
    because the data there was the same before. In bytes."""
    bits: Count | None = None
    """Bit-flip: the number of wrong bits."""
    first: list[BitFlips] | None = None
    """Bit-flip: the first 16 wrong bytes."""
    by: Distance | None = None
    """Shifted: the distance in bytes, positive towards the end of the disk."""
    versions_back: Count | None = None
    """Stale: how many versions back the bytes are from."""
    meant_for: Count | None = None
    """Misdirected: the offset on the disk at which the bytes belong."""


class Finding(SectorRange, frozen=True, kw_only=True, rename={"kind": "class"}):
    """Neighbouring damaged sectors that have the same explanation.

    Without an explanation, only the sectors are set. ``source`` is None if no op brought the bytes.
    """

    kind: DamageKind | None = None
    source: Origin | None = None
    detail: Detail | None = None
    text: str | None = None
    """The explanation as a sentence."""
    writer: Origin | None = None
    """The op whose bytes should be in the first sector. If the write of it was lost, that write."""

    def __repr__(self) -> str:
        last = self.sector + self.sectors - 1
        place = f"sector {last}" if self.sectors == 1 else f"sectors {self.sector} to {last}"
        return f"<Finding {place}{f': {self.kind}' if self.kind else ''}>"

    def _repr_html_(self) -> str:
        source = self.source and f"#{self.source.seq} {self.source.kind}"
        writer = self.writer and f"#{self.writer.seq} {self.writer.kind}"
        rows = [("in words", self.text), ("source", source), ("writer", writer)]
        return facts(repr(self)[1:-1], rows)


class Cause(Struct, frozen=True, kw_only=True, rename={"kind": "class"}):
    """Damage that has one explanation, which may be many ranges: what happened to one op, or the
    same to at least three ops. Unexplained damage is one cause, without a kind."""

    kind: DamageKind | None = None
    ops: Count = 0
    """How many ops it happened to; 0 if none is known."""
    seqs: list[Count] = []
    """The first of these ops, at most 16."""
    ranges: Count
    sectors: Count
    """Damaged sectors in all ranges."""
    sector: Count
    """The first damaged sector."""
    common: list[str] = []
    """What all of several ops or ranges have in common, and hardly by chance: ``each at a multiple
    of 64.0 KiB``."""
    what: str
    """The cause in a few words: ``40 writes torn``."""
    text: str
    """The cause as a sentence."""


class CulpritOp(OpName, frozen=True, kw_only=True):
    """The first op after which the test image is wrong."""

    flags: list[str]
    submitted: Count
    connection: Count = 0


class Suspect(OpName, frozen=True, kw_only=True):
    """An op that may be the culprit, if no op is proven to be."""

    followed: Count
    """How often damage followed the op while blkbox searched."""
    in_flight: list[Count]
    """The seqs of the ops that were in flight with it."""


class OtherFault(Struct, frozen=True, kw_only=True):
    """A fault besides the one that the verdict is about."""

    reason: str
    seq: Count | None = None
    """The earliest op that showed it, or that did the damage; None if that is not known."""


class BadRead(Struct, frozen=True, kw_only=True):
    """The first read that returned wrong data, and its first wrong sector."""

    seq: Count
    sector: Count


class SectorBytes(Struct, frozen=True, kw_only=True):
    """The expected and actual bytes of a damaged sector, from byte ``offset`` of the disk.

    Both are in hexadecimal and have the same length.
    """

    sector: Count
    offset: Count
    expected: SectorHex
    actual: SectorHex

    def __post_init__(self) -> None:
        if len(self.expected) != len(self.actual):
            raise ValueError("expected and actual differ in length")


class Environment(Struct, frozen=True, kw_only=True):
    """What a replay ran on, in the form that a trace's header has."""

    host: dict[str, Any] = {}
    tools: dict[str, Any] = {}
    driver: dict[str, Any] = {}


class MismatchSummary(Struct, frozen=True, kw_only=True):
    """A difference between the two sides of a recording: at op ``seq``, or after all ops (None)."""

    seq: Count | None
    fault: FaultName
    sector: Count
    sectors: Count


class Walk(StrEnum):
    """How much of the driver's block status was read."""

    WHOLE = "whole"
    PART = "part"
    """It took too long, or failed."""
    NONE = "none"
    """The driver does not offer it."""


class Compared(Struct, frozen=True, kw_only=True):
    """What a comparison of both images read. All but ``samples`` are bytes."""

    size: Count
    """Bytes of the disk."""
    touched: Count
    """Compared because ops came there, or the reference holds data."""
    more: Count
    """Compared because block status calls it data, or ops cleared it, or it was little."""
    samples: Count = 0
    """Reads at random places elsewhere."""
    sampled: Count = 0
    """Compared by these reads."""
    left: Count = 0
    """May hold data as block status has it, and was too much or too slow to read: samples only."""
    block_status: Walk

    @property
    def whole(self) -> bool:
        """Whether every byte was compared."""
        return self.touched + self.more >= self.size

    @property
    def blind(self) -> bool:
        """Whether block status left parts of the disk of which only a sample was compared."""
        return not self.whole and (self.block_status is not Walk.WHOLE or self.left > 0)

    def describe(self) -> str:
        """Return it in a line: ``4.0 KiB touched, 64 samples of the other 16.0 GiB``."""
        if self.whole:
            return f"all {size(self.size)}"
        parts = [f"{size(self.touched)} touched"]
        if self.more:
            parts.append(f"{size(self.more)} more that may hold data")
        rest = self.size - self.touched - self.more
        parts.append(f"{self.samples:,} samples of the other {size(rest)}")
        text = ", ".join(parts)
        if self.block_status is Walk.NONE:
            return f"{text}; the driver has no block status"
        if self.left:
            text += f"; the driver calls {size(self.left)} of that data"
        if self.block_status is Walk.PART:
            text += "; reading all its block status took too long"
        return text


# ---------------------------------------------------------------- results


class Verdict(Struct, frozen=True, kw_only=True):
    """What a replay found."""

    verdict: VerdictKind
    reason: str
    driver: str
    trace: str
    size: Count
    """Bytes of the disk."""
    ops: Count = 0
    """Ops of the trace that a whole run replays. Start ops count only if they are written."""
    replayed_ops: Count = 0
    """Ops sent to the driver in all runs."""
    runs: Count = 0
    confirm_ops: Count = 0
    """How many of ``replayed_ops`` served to confirm the culprit."""
    start: StartKind | None = None
    """How the image got the data that the disk started with; None if it started blank."""
    culprit: CulpritOp | None = None
    confirmed: bool = False
    shown: Count = 0
    """How many of ``tries`` runs of the prefix that ends with the culprit showed the fault."""
    tries: Count = 0
    clean_without: Count = 0
    """How many runs of the prefix that ends before the culprit were clean."""
    detected: Count = 1
    """The number of the first run of the whole trace that showed the fault, from 1."""
    seed: Count = 0
    """The seed of the order of ops in flight with which the fault showed; 0: the recorded order."""
    culprit_shows: str | None = None
    """What shows right after the culprit, if that is another sign than the one in ``reason``."""
    needs_company: bool | None = None
    """Whether the fault shows only with several ops in flight; None if that was not tried."""
    company: Count | None = None
    """The op that must be in flight with the culprit, if there is one and it was found."""
    suspects: list[Suspect] = []
    """If there is no culprit, the ops that damage followed, the most frequent first."""
    also: list[OtherFault] = []
    """Other faults that were met."""
    located: bool = True
    """False if there was a fault and no culprit was searched for."""
    symptom: SymptomKind | None = None
    reader: str | None = None
    """The build that reopened the images, if it is another build."""
    volatile: bool = False
    """Whether the driver loses everything in a restart, so that no image was compared after it."""
    compared: Compared | None = None
    """What the comparison of the images after the whole trace read; None if there was none."""
    damage: list[Finding]
    """All damage in the run of the whole trace."""
    culprit_damage: list[Finding]
    """All damage right after the culprit."""
    causes: list[Cause] = []
    """``damage`` by cause: the most sectors first, what is unexplained last. Empty in the verdicts
    of older versions."""
    culprit_causes: list[Cause] = []
    """``culprit_damage`` by cause."""
    first_bad_read: BadRead | None = None
    bytes: SectorBytes | None = None
    """Bytes of the first damaged sector."""
    hint: str | None = None
    """What to try if the trace was recorded as bad on this driver and replays clean."""
    log: str = ""
    """The tail of the driver's stderr."""
    plot: str | None = None
    small: str | None = None
    """The trace that is left of this one, if it was minimised."""
    command: list[str] = []
    """The words of a command that repeats the replay."""
    environment: Environment = msgspec.field(default_factory=Environment)
    schema: Count = SCHEMA

    def __repr__(self) -> str:
        culprit = f" by #{self.culprit.seq} {self.culprit.kind}" if self.culprit else ""
        found = f", {many(len(self.damage), 'damaged range')}" if self.damage else ""
        return f"<Verdict {self.driver}: {self.verdict}{culprit}{found}>"

    def _repr_html_(self) -> str:
        culprit = self.culprit and f"#{self.culprit.seq} {self.culprit.kind}"
        sectors = sum(finding.sectors for finding in self.damage)
        ranges = many(len(self.damage), "range")
        damage = f"{many(sectors, 'sector')} in {ranges}" if self.damage else ""
        rows: list[tuple[str, object]] = [
            ("reason", self.reason),
            ("culprit", culprit),
            ("damage", damage),
            ("trace", self.trace),
            ("replayed", f"{many(self.replayed_ops, 'op')} in {many(self.runs, 'run')}"),
        ]
        rows += [("cause", cause.what) for cause in (self.culprit_causes or self.causes)[:5]]
        return facts(f"{self.driver}: {self.verdict}", rows)


class Recording(Struct, frozen=True, kw_only=True):
    """What a recording found."""

    verdict: VerdictKind
    reason: str
    trace: str
    driver: str
    size: Count
    """Bytes of the disk."""
    ops: dict[str, Count]
    """The number of ops of each kind."""
    bytes: dict[str, Count]
    """Bytes that the ops of each kind covered, if not 0."""
    mismatches: list[MismatchSummary]
    damage: list[SectorRange]
    """Sectors in which the images differ after the run."""
    trace_bytes: Count
    payload_bytes: Count
    connections: Count
    guest_exit: int | None
    """The exit status of the guest's command, if there was a command."""
    compared: Compared | None = None
    """What the comparison of the images at the end read; None if there was none."""
    made: list[str] = []
    """The files that the recording made: the trace, its payload store, new images."""
    interrupted: SignalName | None = None
    """The signal that came after the guests were done, before everything was compared and the
    driver had stopped."""
    schema: Count = SCHEMA

    def __repr__(self) -> str:
        ops = many(sum(self.ops.values()), "op")
        return f"<Recording {self.driver}: {self.verdict}, {ops} in {self.trace}>"

    def _repr_html_(self) -> str:
        ops = ", ".join(f"{count:,} {kind}" for kind, count in self.ops.items())
        rows: list[tuple[str, object]] = [("reason", self.reason), ("trace", self.trace)]
        rows += [("ops", ops), ("differences", f"{len(self.mismatches):,}")]
        return facts(f"{self.driver}: {self.verdict}", rows)

    @property
    def exit_code(self) -> int:
        """The exit code of ``trace record``: the verdict's, or 128 + the signal's number if a
        signal came before the driver could be judged."""
        if self.verdict is VerdictKind.UNDECIDABLE and self.interrupted is not None:
            return 128 + signal.Signals[self.interrupted]
        return self.verdict.exit_code


HOW = frozenset(
    {
        "schema", "trace", "driver", "start", "hint", "plot", "small", "log", "command",
        "environment", "cell",
    }
)  # fmt: skip
"""Keys of a verdict's JSON that say what was judged and where files are, not what was found. A
matrix adds ``cell``."""

EFFORT = frozenset({"replayed_ops", "runs", "tries", "submitted", "compared"})
"""Keys of a verdict's JSON that depend on timing or chance."""

# ---------------------------------------------------------------- to and from JSON

Model = TypeVar("Model", Verdict, Recording)


def to_json(model: Struct) -> dict[str, Any]:
    """Return a model as a dict for ``json.dumps``, with the keys in the model's order."""
    found: dict[str, Any] = msgspec.to_builtins(model)
    return found


def from_json(raw: object, model: type[Model], *, name: str = "this") -> Model:
    """Return the model that ``raw``, parsed JSON from ``to_json``, describes.

    Keys that older versions did not write get their defaults. Unknown keys are ignored. Raises
    UsageError if ``raw`` is not valid. ``name`` stands for ``raw`` in its message.
    """
    if not isinstance(raw, Mapping):
        raise UsageError(f"{name} is not a verdict: it is not a JSON object")
    schema = raw.get("schema")
    if schema not in (None, SCHEMA):
        raise UsageError(f"{name} has schema {schema!r}; this version reads {SCHEMA}")
    if schema is None:
        raise _refusal(name, "schema")
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(model):
        key = field.encode_name
        if key in raw:
            try:
                values[field.name] = _value(raw[key], field.type)
            except ValueError:  # includes msgspec.ValidationError and UnicodeEncodeError
                raise _refusal(name, key) from None
        elif field.required:
            raise _refusal(name, key)
    found = model(**values)
    disk = sectors(0, found.size)
    for key in ("damage", "culprit_damage"):
        if any(part.sector + part.sectors > disk.stop for part in getattr(found, key, ())):
            raise _refusal(name, key)
    return found


def _value(raw: Any, kind: Any) -> Any:
    """Convert a value of a JSON object to the model's type. Raises ValueError."""
    value = msgspec.convert(raw, kind)
    # JSON may hold any surrogate. Allow only those that stand for non-UTF-8 bytes of a file's name.
    builtins = msgspec.to_builtins(value)
    json.dumps(builtins, ensure_ascii=False).encode(errors="surrogateescape")
    return value


def _refusal(name: str, key: str) -> UsageError:
    return UsageError(f"{name} is not a verdict: {key} is missing or wrong")
