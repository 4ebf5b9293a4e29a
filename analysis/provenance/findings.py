"""A finding as a sentence."""

from tracer.op import SECTOR
from tracer.text import size
from tracer.verdict import DamageKind, Detail


def sentence(
    kind: DamageKind, sector: int, sectors: int, writer: str, origin: str, detail: Detail
) -> str:
    """Return a finding as a sentence.

    ``writer`` names the op whose bytes should be in the sectors, ``origin`` the op whose bytes are
    there. Either may be empty.
    """
    where = f"sector {sector}" if sectors == 1 else f"sectors {sector} to {sector + sectors - 1}"
    hold = f"{where} hold{'s' if sectors == 1 else ''}"
    brought = f"what {origin} brought" if origin else "zeroes"
    match kind, detail:
        case DamageKind.LOST_WRITE, _:
            text = f"{hold} what was there before {writer}: {brought}"
        case DamageKind.STALE, Detail(versions_back=int(back)):
            text = f"{hold} {brought}, {back} versions back"
        case DamageKind.MISDIRECTED, Detail(meant_for=int(meant)):
            place = f"byte {meant}" if meant % SECTOR else f"sector {meant // SECTOR}"
            text = f"{hold} {brought} for {place}"
        case DamageKind.TORN, Detail(boundary=int(boundary), power_of_two=int(power)):
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
            direction = "forward" if by > 0 else "back"
            text = f"{hold} {brought}, moved {direction} by {abs(by)} bytes"
        case DamageKind.FOREIGN, _:
            text = f"{hold} bytes that this trace wrote nowhere"
        case _:
            raise AssertionError(f"{kind} without its detail")
    return f"{text} ({kind.replace('-', ' ')})"
