"""Where the bytes of a damaged sector come from."""

from collections.abc import Iterable
from dataclasses import replace

from replay.below.found import Damage, Holds
from replay.below.promises import Promises
from tracer.candidates.evidence import Evidence
from tracer.digest import digest, is_zero
from tracer.op import SECTOR

MAX_DAMAGE = 100
"""The most ranges of sectors that a fault lists."""


PROBE, LEAST = 32, 8
"""Bytes by which a piece of a write is recognised, if there are so many, and at least."""


class Origins:
    """Tells where bytes come from. Reads all that the guest wrote, once it is needed."""

    def __init__(self, promises: Promises) -> None:
        self._promises = promises
        self._written: dict[bytes, tuple[int, int]] = {}
        """By digest of a sector: the op that wrote it first, and where."""

    def damage(self, evidence: Iterable[Evidence]) -> list[Damage]:
        """Return what damaged sectors hold: neighbours that hold the same are one range."""
        found: list[Damage] = []
        for piece in evidence:
            sector, one = piece.offset // SECTOR, self._origin(piece)
            last = found[-1] if found else None
            if last and last.end == sector and last.goes_on_with(one):
                found[-1] = replace(last, sectors=last.sectors + 1)
            elif len(found) < MAX_DAMAGE:
                found.append(one)
        return found

    def _origin(self, piece: Evidence) -> Damage:
        """Say what a damaged sector holds."""
        sector = piece.offset // SECTOR
        if is_zero(piece.actual):
            return Damage(sector, 1, Holds.ZEROES)
        if not self._written:
            self._read_all()
        origin = self._written.get(digest(piece.actual)) or self._part_of(piece.actual)
        if origin is None:
            return Damage(sector, 1, Holds.UNKNOWN)
        seq, source = origin
        holds = Holds.OLD if source == sector else Holds.OTHER_SECTOR
        return Damage(sector, 1, holds, seq, source)

    def _part_of(self, actual: bytes) -> tuple[int, int] | None:
        """Return the op that wrote the first bytes of a sector that are not zero, and where: it may
        have written no whole sector, or to another place in one. The latest such op is meant."""
        probe = actual.strip(b"\0")[:PROBE]
        if len(probe) < LEAST:
            return None
        for change in reversed(self._promises.changes):
            data = self._promises.data(change)
            at = bytes(data).find(probe) if data is not None else -1
            if at >= 0:
                return change.op.seq, (change.op.offset + at) // SECTOR
        return None

    def _read_all(self) -> None:
        for change in self._promises.changes:
            data, op = self._promises.data(change), change.op
            if data is None:
                continue
            first = -op.offset % SECTOR
            for at in range(first, op.length - SECTOR + 1, SECTOR):
                key = digest(bytes(data[at : at + SECTOR]))
                self._written.setdefault(key, (op.seq, (op.offset + at) // SECTOR))
