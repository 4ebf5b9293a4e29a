"""What is wrong with a run of sectors, and where their bytes came from: as data, and in a sentence."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tracer.op import SECTOR
from tracer.text import size


class Damage(StrEnum):
    """What became of a sector. docs/finding-culprits.md, "What kind of damage", defines each."""

    LOST_WRITE = "lost-write"
    STALE = "stale"
    MISDIRECTED = "misdirected"
    TORN = "torn"
    ZEROED = "zeroed"
    BIT_FLIP = "bit-flip"
    SHIFTED = "shifted"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Finding:
    """Neighbouring sectors with one explanation.

    ``kind`` is a ``Damage``. ``source`` is the op that the wrong bytes came from: its seq, kind, offset
    and length (bytes), and ``at``, where in its data they begin; None where there is none. ``detail`` is
    what the kind needs:

    - torn: ``boundary`` (byte on the disk), ``into_op`` (bytes of the op before it), ``power_of_two``
      (the largest that the boundary is a multiple of), ``arrived`` ("first" or "last": which part did)
    - bit-flip: ``bits`` (how many), ``first`` (up to 16 of [byte on the disk, mask])
    - shifted: ``by`` (bytes, positive towards the end of the disk)
    - stale: ``versions_back``
    - misdirected: ``meant_for`` (byte on the disk)

    ``text`` is a sentence for people.
    """

    sector: int
    sectors: int
    kind: str
    source: dict[str, Any] | None
    detail: dict[str, Any]
    text: str


def sentence(
    kind: Damage, sector: int, sectors: int, writer: str, origin: str, detail: Mapping[str, Any]
) -> str:
    """A finding in words. ``writer`` names the op whose bytes should be there, ``origin`` the one whose
    bytes are; either may be empty."""
    where = f"sector {sector}" if sectors == 1 else f"sectors {sector} to {sector + sectors - 1}"
    hold = f"{where} hold{'s' if sectors == 1 else ''}"
    brought = f"what {origin} brought" if origin else "zeroes"
    match kind:
        case Damage.LOST_WRITE:
            text = f"{hold} what was there before {writer}: {brought}"
        case Damage.STALE:
            text = f"{hold} {brought}, {detail['versions_back']} versions back"
        case Damage.MISDIRECTED:
            meant = detail["meant_for"]
            place = f"byte {meant}" if meant % SECTOR else f"sector {meant // SECTOR}"
            text = f"{hold} {brought} for {place}"
        case Damage.TORN:
            part = "ends" if detail["arrived"] == "first" else "begins"
            text = (
                f"{writer} arrived in part: what did {part} at byte {detail['boundary']}, "
                f"a multiple of {size(detail['power_of_two'])}; {hold} what was there before"
            )
        case Damage.ZEROED:
            instead = f" instead of {'what ' + writer + ' brought' if writer else 'what was there'}"
            text = f"{hold} zeroes{instead}"
        case Damage.BIT_FLIP:
            at, mask = detail["first"][0]
            bits = "1 bit" if detail["bits"] == 1 else f"{detail['bits']} bits"
            text = f"{hold} {bits} wrong, the first in byte {at} (mask {mask:#04x})"
        case Damage.SHIFTED:
            by = detail["by"]
            direction = "forward" if by > 0 else "back"
            text = f"{hold} {brought}, moved {direction} by {abs(by)} bytes"
        case Damage.FOREIGN:
            text = f"{hold} bytes that this trace wrote nowhere"
    return f"{text} ({kind.replace('-', ' ')})"
