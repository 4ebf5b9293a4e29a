"""What a recording or a replay found: the one model of it.

``trace record --json`` prints a ``Recording``, ``trace replay --json`` a ``Verdict``. The screen, the
reports, the pictures and the frames are made from the same objects. ``to_json`` and ``from_json`` turn
them into JSON and back; docs/verdict.schema.json and docs/recording.schema.json are generated from here.

Offsets and lengths are bytes, sectors have 512 bytes, times are ns since the trace's start.
"""

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from tracer.errors import Exit, UsageError
from tracer.op import SECTOR

SCHEMA = 1
"""The version of the JSON."""

MAX_INT = (1 << 63) - 1
"""JSON has no limit to its numbers; polars and numpy have."""

Count = Annotated[int, Meta(ge=0, le=MAX_INT)]
Distance = Annotated[int, Meta(ge=-MAX_INT - 1, le=MAX_INT)]

# the end is not written as $, which also matches before a line feed
SectorHex = Annotated[str, Meta(pattern=rf"^(?:[0-9a-f]{{2}}){{1,{SECTOR}}}(?![\s\S])")]
"""The bytes of a sector or of a part of one."""

BitFlips = Annotated[list[Count], Meta(min_length=2, max_length=2)]
"""A byte on the disk, and a mask of its bits that are wrong."""

# ---------------------------------------------------------------- words


class VerdictKind(StrEnum):
    """What the driver under test is. docs/finding-culprits.md has the definitions."""

    CLEAN = "clean"
    DAMAGED = "damaged"
    FAILED = "failed"
    UNDECIDABLE = "undecidable"

    @property
    def exit_code(self) -> Exit:
        """The exit code of the command that found it."""
        match self:
            case VerdictKind.CLEAN:
                return Exit.CLEAN
            case VerdictKind.UNDECIDABLE:
                return Exit.UNDECIDABLE
            case _:
                return Exit.BAD_DRIVER


class SymptomKind(StrEnum):
    """The earliest sign of a fault in a replay."""

    READ = "read"
    STATUS = "status"
    BLOCK_STATUS = "block status"
    CRASH = "crash"
    HANG = "hang"
    IMAGE = "image"
    STOP = "stop"
    CHECK = "check"
    REOPEN = "reopen"


class DamageKind(StrEnum):
    """What became of a sector. docs/finding-culprits.md, "What kind of damage", defines each."""

    LOST_WRITE = "lost-write"
    STALE = "stale"
    MISDIRECTED = "misdirected"
    TORN = "torn"
    ZEROED = "zeroed"
    BIT_FLIP = "bit-flip"
    SHIFTED = "shifted"
    FOREIGN = "foreign"


class FaultName(StrEnum):
    """How the two sides of a recording differed: the names of ``tracer.trace.Fault``."""

    DATA = "data"
    STATUS = "status"
    BLOCK_STATUS = "block_status"
    FINAL = "final"
    LOST = "lost"


# ---------------------------------------------------------------- parts


class SectorRange(Struct, frozen=True, kw_only=True):
    """Neighbouring damaged sectors."""

    sector: Count
    sectors: Count

    @property
    def start(self) -> int:
        """The first byte."""
        return self.sector * SECTOR

    @property
    def end(self) -> int:
        """The byte after the last sector."""
        return (self.sector + self.sectors) * SECTOR


class Origin(Struct, frozen=True, kw_only=True):
    """The op that wrong bytes came from, and ``at`` which byte of its data they begin."""

    seq: Count
    kind: str
    offset: Count
    length: Count
    at: Count


class Detail(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a kind of damage needs besides. The JSON has only what is not None."""

    boundary: Count | None = None
    """Torn: the byte on the disk where one part ends and the other begins."""
    into_op: Count | None = None
    """Torn: bytes of the op before the boundary."""
    power_of_two: Count | None = None
    """Torn: the largest power of two that the boundary is a multiple of."""
    arrived: str | None = None
    """Torn: which part arrived, "first" or "last"."""
    bits: Count | None = None
    """Bit-flip: how many bits are wrong."""
    first: list[BitFlips] | None = None
    """Bit-flip: the first 16 wrong bytes."""
    by: Distance | None = None
    """Shifted: by how many bytes, positive towards the end of the disk."""
    versions_back: Count | None = None
    """Stale: how many versions old the bytes are."""
    meant_for: Count | None = None
    """Misdirected: the byte on the disk where they belong."""


class Finding(SectorRange, frozen=True, kw_only=True, rename={"kind": "class"}):
    """Neighbouring damaged sectors with one explanation. All but the place is None where no explanation
    was looked for; ``source`` is None too where the bytes came from no op."""

    kind: DamageKind | None = None
    source: Origin | None = None
    detail: Detail | None = None
    text: str | None = None
    """A sentence for people."""


class CulpritOp(Struct, frozen=True, kw_only=True):
    """The first op after which the test image is wrong."""

    seq: Count
    kind: str
    offset: Count
    length: Count
    flags: list[str]
    submitted: Count
    connection: Count = 0


class BadRead(Struct, frozen=True, kw_only=True):
    """The first read that returned wrong data, and its first wrong sector."""

    seq: Count
    sector: Count


class SectorBytes(Struct, frozen=True, kw_only=True):
    """What a damaged sector should hold and what it holds, from byte ``offset`` of the disk on, in
    hexadecimal and equally long."""

    sector: Count
    offset: Count
    expected: SectorHex
    actual: SectorHex

    def __post_init__(self) -> None:
        if len(self.expected) != len(self.actual):
            raise ValueError("expected and actual are not equally long")


class Environment(Struct, frozen=True, kw_only=True):
    """What a replay ran on, as a trace's header describes it."""

    host: dict[str, Any] = {}
    tools: dict[str, Any] = {}
    driver: dict[str, Any] = {}


class MismatchSummary(Struct, frozen=True, kw_only=True):
    """Where the two sides of a recording differed: at op ``seq``, or after all ops (None)."""

    seq: Count | None
    fault: FaultName
    sector: Count
    sectors: Count


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
    """Ops of the trace that were to be replayed."""
    replayed_ops: Count = 0
    """Ops sent to the driver, in all runs together; ``confirm_ops`` of them to confirm the culprit."""
    runs: Count = 0
    confirm_ops: Count = 0
    culprit: CulpritOp | None = None
    confirmed: bool = False
    shown: Count = 0
    """In how many of ``tries`` runs the prefix that ends with the culprit went wrong."""
    tries: Count = 0
    clean_without: Count = 0
    """How many runs of the prefix before it were clean."""
    detected: Count = 1
    """Which of the runs of the whole trace was the first to show the fault."""
    seed: Count = 0
    """The order of ops in flight together in which the fault showed; 0 is the recorded order."""
    needs_company: bool | None = None
    """Whether the fault shows only with several ops in flight; None where that was not tried."""
    located: bool = True
    """Whether a culprit was looked for."""
    symptom: SymptomKind | None = None
    reader: str | None = None
    """The build that images were reopened with, if another."""
    volatile: bool = False
    """Whether the driver keeps nothing over a restart, so that nothing was compared after one."""
    damage: list[Finding]
    """All that was wrong in the run of the whole trace."""
    culprit_damage: list[Finding]
    """All that was wrong right after the culprit."""
    first_bad_read: BadRead | None = None
    bytes: SectorBytes | None = None
    """The first damaged sector."""
    log: str = ""
    """What the driver wrote to stderr last."""
    plot: str | None = None
    command: list[str] = []
    """The words of a command that does the same again."""
    environment: Environment = msgspec.field(default_factory=Environment)
    schema: Count = SCHEMA


class Recording(Struct, frozen=True, kw_only=True):
    """What a recording found."""

    verdict: VerdictKind
    reason: str
    trace: str
    driver: str
    size: Count
    """Bytes of the disk."""
    ops: dict[str, Count]
    """How many ops of each kind."""
    bytes: dict[str, Count]
    """Bytes that the ops of each kind covered, where that is not 0."""
    mismatches: list[MismatchSummary]
    damage: list[SectorRange]
    """Where the images differed in the end."""
    trace_bytes: Count
    payload_bytes: Count
    connections: Count
    guest_exit: int | None
    """The exit status of the guest's command, where there was one."""
    schema: Count = SCHEMA


HOW = frozenset({"schema", "trace", "driver", "plot", "log", "command", "environment"})
"""Keys of a verdict's JSON that say what was judged and where things are, not what was found."""

EFFORT = frozenset({"replayed_ops", "runs", "tries", "submitted"})
"""Keys of a verdict's JSON that depend on time and on luck."""

# ---------------------------------------------------------------- to and from JSON

Model = TypeVar("Model", Verdict, Recording)


def to_json(model: Struct) -> dict[str, Any]:
    """A model as the dict that ``json.dumps`` takes, with keys in the model's order."""
    found: dict[str, Any] = msgspec.to_builtins(model)
    return found


def from_json(raw: object, model: type[Model], *, name: str = "this") -> Model:
    """The model that ``to_json`` made ``raw`` of. Keys that older versions did not write get their
    defaults, unknown ones are ignored. Raises UsageError, which calls ``raw`` by ``name``."""
    if not isinstance(raw, Mapping):
        raise _refusal(name, "the whole")
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
            except ValueError:  # msgspec.ValidationError and UnicodeEncodeError are such
                raise _refusal(name, key) from None
        elif field.required:
            raise _refusal(name, key)
    found = model(**values)
    sectors = -(-found.size // SECTOR)
    for key in ("damage", "culprit_damage"):
        if any(one.sector + one.sectors > sectors for one in getattr(found, key, ())):
            raise _refusal(name, key)
    return found


def _value(raw: Any, kind: Any) -> Any:
    """A value of a JSON object as the model has it. Raises ValueError."""
    value = msgspec.convert(raw, kind)
    # JSON can hold any surrogate. In a file's name some stand for bytes that are not UTF-8.
    plain = msgspec.to_builtins(value)
    json.dumps(plain, ensure_ascii=False).encode(errors="surrogateescape")
    return value


def _refusal(name: str, key: str) -> UsageError:
    return UsageError(f"{name} is no verdict: {key} is missing or wrong")
