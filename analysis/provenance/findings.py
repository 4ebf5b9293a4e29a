"""A finding as a sentence."""

from collections.abc import Sequence

from msgspec import structs

from tracer.op import SECTOR, Kind
from tracer.text import many, size
from tracer.verdict import DamageKind, Detail, Finding, Origin


def name(op: Origin) -> str:
    """Return ``#12 write``, or "the start image", which is not a request."""
    return "the start image" if op.kind == Kind.START.label else f"#{op.seq} {op.kind}"


def sentence(found: Finding) -> str:
    """Return an explained finding as a sentence."""
    return _sentence(found, [found])


def sentence_of_all(ranges: Sequence[Finding]) -> str:
    """Return ranges with one cause, in the order of the disk, as one sentence."""
    first = ranges[0]
    if first.kind is None:
        return f"{_hold(ranges)} wrong bytes (unexplained)"
    if first.kind is DamageKind.BIT_FLIP and first.detail is not None:
        bits = sum(found.detail.bits or 0 for found in ranges if found.detail is not None)
        first = structs.replace(first, detail=Detail(bits=bits, first=first.detail.first))
    return _sentence(first, ranges)


def _sentence(found: Finding, ranges: Sequence[Finding]) -> str:
    """Return the sentence of some ranges, which have the explanation of ``found``."""
    assert found.kind is not None
    alone, hold = len(ranges) == 1, _hold(ranges)
    same = len({one.source and one.source.seq for one in ranges}) == 1
    writer = name(found.writer) if found.writer is not None else ""
    brought = f"what {name(found.source)} brought" if found.source is not None else "zeroes"
    match found.kind, found.detail or Detail():
        case DamageKind.LOST_WRITE, _:
            text = f"{hold} what was there before {writer}" + (f": {brought}" if same else "")
        case DamageKind.STALE, Detail(versions_back=int(back)):
            text = f"{hold} {brought if same else 'what several ops brought'}, {back} versions back"
        case DamageKind.MISDIRECTED, Detail(meant_for=int(meant)):
            place = f"byte {meant}" if meant % SECTOR else f"sector {meant // SECTOR}"
            text = f"{hold} {brought} for {place}{'' if alone else ' on'}"
        case DamageKind.TORN, Detail(boundary=int(boundary), power_of_two=int(power)) as detail:
            part = "ends" if detail.arrived == "first" else "begins"
            text = (
                f"{writer} arrived in part: what did {part} at byte {boundary}, "
                f"a multiple of {size(power)}; {hold} what was there before"
            )
        case DamageKind.ZEROED, _:
            instead = f" instead of {'what ' + writer + ' brought' if writer else 'what was there'}"
            text = f"{hold} zeroes{instead}"
        case DamageKind.BIT_FLIP, Detail(bits=int(count), first=[[at, mask], *_]):
            bits = "1 bit" if count == 1 else f"{count} bits"
            text = f"{hold} {bits} wrong, the first in byte {at} (mask {mask:#04x})"
        case DamageKind.SHIFTED, Detail(by=int(by)):
            text = f"{hold} {brought}, moved {direction(by)} by {many(abs(by), 'byte')}"
        case DamageKind.FOREIGN, _:
            text = f"{hold} bytes that this trace wrote nowhere"
        case kind, _:
            raise AssertionError(f"{kind} without its detail")
    return f"{text} ({found.kind.replace('-', ' ')})"


def direction(by: int) -> str:
    """Return in which direction data moved by a number of bytes."""
    return "forward" if by > 0 else "back"


def _hold(ranges: Sequence[Finding]) -> str:
    """Return the subject and verb of a sentence about ranges: ``sector 8 holds``."""
    first, count = ranges[0].sector, sum(found.sectors for found in ranges)
    if len(ranges) > 1:
        last = ranges[-1].sector + ranges[-1].sectors - 1
        return f"{count:,} sectors in {len(ranges):,} ranges from {first} to {last} hold"
    return f"sector {first} holds" if count == 1 else f"sectors {first} to {first + count - 1} hold"
