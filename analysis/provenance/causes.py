"""Group findings by cause: one finding is one range, but one cause may have damaged many.

Ranges have the same cause if they agree in their class, in the op that the class speaks about, and
in what else tells two faults of the class apart:

    lost-write    the lost op
    stale         the op whose data is missing, versions back
    misdirected   the op that brought the bytes, distance
    torn          the torn op, boundary, part that arrived
    zeroed        the op whose data is missing
    bit-flip      the op that wrote the sector
    shifted       the op that brought the bytes, distance
    foreign       the op whose data is missing
    unexplained   nothing: one cause

If the same happened to at least MANY ops, that is one cause too.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from analysis.provenance.changes import Changes
from analysis.provenance.common import are_all, of_ops, of_ranges
from analysis.provenance.findings import direction, name, sentence_of_all
from tracer.op import SECTOR, Kind
from tracer.text import many, size
from tracer.verdict import Cause, DamageKind, Detail, Finding, Origin

MANY = 3
"""The fewest ops to which the same happened that are one cause. What two ops have in common says
little."""

MAX_SEQS = 16
"""The most ops listed in a cause."""

MAX_NAMED = 3
"""The most ops named in a sentence about several."""

PLURALS = {Kind.WRITE.label: "writes", Kind.ZERO.label: "write zeroes", Kind.TRIM.label: "trims",
           Kind.START.label: "parts of the start image"}  # fmt: skip

Item = TypeVar("Item")

Fault = list[Finding]
"""Ranges that have one cause, in the order of the disk."""


def _writer(found: Finding) -> Origin | None:
    return found.writer


def _source(found: Finding) -> Origin | None:
    return found.source


def _how(found: Finding) -> str:
    """Return in which way a fault happened that may happen to many ops: ``, 2 versions back``."""
    match found.kind, found.detail:
        case DamageKind.STALE, Detail(versions_back=int(back)):
            return f", {back} versions back"
        case DamageKind.MISDIRECTED, Detail(meant_for=int(meant)):
            by = found.sector - meant // SECTOR
            return f" {direction(by)} by {_count(abs(by), 'sector')}"
        case DamageKind.TORN, Detail(arrived=str(part)):
            return f" (the {part} part arrived)"
        case DamageKind.SHIFTED, Detail(by=int(by)):
            return f" {direction(by)} by {many(abs(by), 'byte')}"
    return ""


@dataclass(frozen=True, slots=True)
class _Rule:
    """How the faults of a class are grouped."""

    op: Callable[[Finding], Origin | None]
    """The op that the class speaks about."""
    words: str
    """What is said of the op, or of a range."""
    counts: bool = True
    """Whether ops are counted. Otherwise a range may have damaged the data of several ops, and
    ranges are counted."""


_RULES: dict[DamageKind | None, _Rule] = {
    DamageKind.LOST_WRITE: _Rule(_writer, "lost"),
    DamageKind.STALE: _Rule(_writer, "stale"),
    DamageKind.MISDIRECTED: _Rule(_source, "misdirected"),
    DamageKind.TORN: _Rule(_source, "torn"),
    DamageKind.ZEROED: _Rule(_writer, "zeroed", counts=False),
    DamageKind.BIT_FLIP: _Rule(_source, "with flipped bits"),
    DamageKind.SHIFTED: _Rule(_source, "shifted"),
    DamageKind.FOREIGN: _Rule(_writer, "with foreign bytes", counts=False),
    None: _Rule(lambda _: None, "unexplained", counts=False),
}


def group(findings: Iterable[Finding], changes: Changes) -> list[Cause]:
    """Group findings by cause: the most sectors first, then by place, what is unexplained last.

    ``changes`` are the ops of the trace, with which the ops of a cause are compared.
    """
    faults = _split(findings, _fault)
    causes = [
        _alone(faults[0]) if len(faults) == 1 else _together(faults, changes)
        for faults in _families(faults)
    ]
    return sorted(causes, key=lambda cause: (cause.kind is None, -cause.sectors, cause.sector))


def _fault(found: Finding) -> Hashable:
    """Return what ranges with the same cause have in common."""
    op = _RULES[found.kind].op(found)
    boundary = found.detail.boundary if found.detail is not None else None
    return found.kind, op and op.seq, _how(found), boundary


def _families(faults: Iterable[Fault]) -> Iterator[list[Fault]]:
    """Yield the faults of which there are MANY alike together, and the other faults alone."""
    for same in _split(faults, lambda fault: fault[0].kind):
        rest: list[Fault] = []
        for alike in _split(same, lambda fault: _how(fault[0])):
            if len(alike) >= MANY:
                yield alike
            else:
                rest += alike
        yield from [rest] if len(rest) >= MANY else ([fault] for fault in rest)


def _alone(ranges: Fault) -> Cause:
    """Return one fault as a cause."""
    rule, op = _RULES[ranges[0].kind], _RULES[ranges[0].kind].op(ranges[0])
    if rule.counts and op is not None:
        what = f"{name(op)} {rule.words}"
    else:
        what = f"{_count(len(ranges), 'range')} {rule.words}"
    return _cause(ranges, [op.seq] if op is not None else [], what, sentence_of_all(ranges))


def _together(faults: list[Fault], changes: Changes) -> Cause:
    """Return the faults of several ops as one cause."""
    ranges = sorted((found for fault in faults for found in fault), key=lambda one: one.sector)
    rule = _RULES[ranges[0].kind]
    ops = {op.seq: op for fault in faults if (op := rule.op(fault[0])) is not None}
    seqs = sorted(ops)
    ways = {_how(found) for found in ranges}
    how = ways.pop() if len(ways) == 1 else ""
    amount = f"{size(sum(found.sectors for found in ranges) * SECTOR)} in {len(ranges):,} ranges"
    if rule.counts:
        kinds = {op.kind for op in ops.values()}
        noun = PLURALS.get(kinds.pop(), "ops") if len(kinds) == 1 else "ops"
        every = "all " if are_all(seqs, changes) else ""
        what = f"{every}{len(ops):,} {noun} {rule.words}"
        common = of_ops(ranges, seqs, changes)
        named = ", ".join(f"#{seq}" for seq in seqs[:MAX_NAMED])
        more = f" and {len(seqs) - MAX_NAMED:,} more" if len(seqs) > MAX_NAMED else ""
        where = f"{named}{more}; {amount}"
    else:
        what = f"{len(ranges):,} ranges {rule.words}"
        common = of_ranges(ranges, changes)
        last = ranges[-1].sector + ranges[-1].sectors - 1
        where = f"from sector {ranges[0].sector} to {last}, {amount}"
    text = f"{', '.join([what + how, *common])}: {where}"
    return _cause(ranges, seqs, what, text, common)


def _cause(
    ranges: Fault, seqs: list[int], what: str, text: str, common: list[str] | None = None
) -> Cause:
    return Cause(
        kind=ranges[0].kind,
        ops=len(seqs),
        seqs=seqs[:MAX_SEQS],
        ranges=len(ranges),
        sectors=sum(found.sectors for found in ranges),
        sector=ranges[0].sector,
        common=common or [],
        what=what,
        text=text,
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _split(items: Iterable[Item], key: Callable[[Item], Hashable]) -> list[list[Item]]:
    """Group items by a key, in the order in which the keys appear."""
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())
