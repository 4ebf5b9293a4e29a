"""What the disk may hold while a program runs and afterwards, as bytes of its patterns.

A script cannot follow what a driver answers, as a replay does. So this is the plain part of what a
disk may hold (tracer/candidates): where steps in flight together conflict, what any of them leaves;
after a trim, anything.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from replay.minimize.program import Program, Step, groups
from tracer.op import Kind

ALL = 1 << 30
"""Bytes of a disk that is read whole at the end: reading holes takes no time."""

AROUND = 2 << 20
"""On a larger disk, what is read around each step: the largest clusters of most formats."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes ``[start, stop)`` and the values that they may have. All of them have the same one,
    unless a read races with a change."""

    start: int
    stop: int
    values: tuple[int, ...]


Values = frozenset[int] | None
"""The values of a piece; None: it may hold anything."""


class Disk:
    """What a disk may hold, step by step. A new disk holds zeroes."""

    def __init__(self, program: Program) -> None:
        edges = {0, program.size}
        for step in program.steps:
            edges |= {step.offset, min(step.stop, program.size)}
        self._edges = sorted(edges)
        self._held: list[Values] = [frozenset({0})] * (len(self._edges) - 1)
        self._touched = [
            (max(0, step.offset - AROUND), step.stop + AROUND) for step in program.steps
        ]
        self._size = program.size

    def reads(self, group: Sequence[Step]) -> Iterator[tuple[Step, list[Piece]]]:
        """Yield the reads of a group that begins now, and what each may return, where known."""
        after = self._after(group)
        for step in group:
            if step.kind == Kind.READ:
                both = [
                    None if held is None or new is None else held | new
                    for held, new in zip(self._held, after, strict=True)
                ]
                yield step, list(self._pieces(both, step.offset, step.stop))

    def done(self, group: Sequence[Step]) -> None:
        """Note that a group is done."""
        self._held = self._after(group)

    def final(self) -> list[Piece]:
        """Return what the disk may hold, where that is known: all of it, or what is around the
        steps."""
        if self._size <= ALL:
            return list(self._pieces(self._held, 0, self._size))
        return [
            Piece(max(piece.start, start), min(piece.stop, stop), piece.values)
            for piece in self._pieces(self._held, 0, self._size)
            for start, stop in self._touched
            if piece.start < stop and start < piece.stop
        ]

    def _after(self, group: Sequence[Step]) -> list[Values]:
        """Return what may be held after a group: what any of its changes leaves, since the last one
        to take effect may be any."""
        result: list[Values] = []
        for start, held in zip(self._edges, self._held, strict=False):
            left = [
                _leaves(step) for step in group
                if step.offset <= start < step.stop and step.kind in _CHANGING
            ]  # fmt: skip
            if not left:
                result.append(held)
            elif None in left:
                result.append(None)
            else:
                result.append(frozenset(value for value in left if value is not None))
        return result

    def _pieces(self, held: list[Values], start: int, stop: int) -> Iterator[Piece]:
        """Yield what is known of a range, neighbours with the same values together."""
        last: Piece | None = None
        for at, (first, end) in enumerate(zip(self._edges, self._edges[1:], strict=False)):
            values = held[at]
            begin, finish = max(first, start), min(end, stop)
            if values is None or begin >= finish:
                continue
            known = tuple(sorted(values))
            if last is not None and (last.stop, last.values) == (begin, known):
                last = Piece(last.start, finish, known)
                continue
            if last is not None:
                yield last
            last = Piece(begin, finish, known)
        if last is not None:
            yield last


_CHANGING = {Kind.WRITE, Kind.START, Kind.ZERO, Kind.TRIM}


def _leaves(step: Step) -> int | None:
    """Return the byte that a change leaves; None: anything."""
    if step.kind == Kind.TRIM:
        return None
    return 0 if step.fill is None else step.fill.byte


def why_not(program: Program) -> str | None:
    """Return why a program cannot be a script; None if it can."""
    if any(step.fill is not None and step.fill.byte is None for step in program.steps):
        return "it needs the data that was recorded, and a script has patterns alone"
    if groups(program) is None:
        return "its ops are in flight in a way that no script can write down"
    return None
