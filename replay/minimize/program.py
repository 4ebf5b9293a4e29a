"""A program: ops as steps that can be dropped, moved and changed, in place of a trace's records.

When a step is in flight is counted in events, not in time: ``begin`` and ``end`` are its submission
and its completion among all those of the program. A step waits for those that end before it begins,
as the ops of a trace do in a replay (replay/schedule.py).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from tracer.op import CARRIES_DATA, NO_TIME, Kind, Op

FINE, COARSE = 512, 4096
"""Bytes that offsets and lengths are counted aligned to: a sector, and what most disks prefer."""


@dataclass(frozen=True, slots=True)
class Fill:
    """What a write brings: one byte again and again, or a piece of what was recorded."""

    byte: int | None = None
    """The byte; None if it is a recorded piece."""
    number: int = 0
    """The record in the trace that has the data."""
    at: int = 0
    """Where the piece begins in that data, in bytes."""


@dataclass(frozen=True, slots=True)
class Step:
    """An op of a program. ``offset`` and ``length`` are bytes."""

    kind: int
    flags: int
    offset: int
    length: int
    connection: int
    begin: int
    """The number of the event at which it is submitted."""
    end: int
    """The number of the event at which it completes."""
    fill: Fill | None = None
    """What it brings, if its kind carries data."""
    restart: bool = False
    """Whether the driver is restarted before it."""

    @property
    def stop(self) -> int:
        """The byte after its last byte."""
        return self.offset + self.length

    def meets(self, other: "Step") -> bool:
        """Whether the two are in flight together."""
        return self.begin < other.end and other.begin < self.end

    def touches(self, other: "Step") -> bool:
        """Whether the two have bytes in common."""
        return self.offset < other.stop and other.offset < self.stop

    def resized(self, offset: int, length: int) -> "Step":
        """Return it with another range: a recorded piece stays where it was, as far as it goes."""
        fill = self.fill
        if fill is not None and fill.byte is None:
            at = fill.at + offset - self.offset
            inside = self.offset <= offset and offset + length <= self.stop
            # data that was not recorded: the first bytes of what there is
            fill = replace(fill, at=at if inside else fill.at)
            if not inside and length > self.length:
                fill = Fill(byte=1)
        return replace(self, offset=offset, length=length, fill=fill)


@dataclass(frozen=True, slots=True)
class Program:
    """Steps in the order of their submission, on a disk of ``size`` bytes."""

    size: int
    steps: tuple[Step, ...]

    def __len__(self) -> int:
        return len(self.steps)

    def program(self) -> "Program":
        """Return itself: a part of a trace has such a method too."""
        return self

    @property
    def measure(self) -> tuple[int, ...]:
        """The total order of programs: of two, the one with the smaller measure is simpler.

        Fewer steps come first, then fewer restarts, what a script can write down, fewer pairs in
        flight together, lower connections and fewer flags. Then comes what is easier to write
        down: patterns, alignment, fewer bytes, lower offsets. The disk's size is last.
        """
        steps = self.steps
        return (
            len(steps),
            sum(step.restart for step in steps),
            groups(self) is None,
            sum(1 for _ in pairs(steps)),
            sum(max(1, step.connection) for step in steps if step.kind != Kind.START),
            sum(step.flags.bit_count() for step in steps),
            sum(step.fill is not None and step.fill.byte is None for step in steps),
            sum(_odd(step.offset) + _odd(step.length) for step in steps),
            sum(step.length for step in steps),
            sum(step.offset for step in steps),
            self.size,
        )

    def with_step(self, at: int, *new: Step) -> "Program":
        """Return it with other steps in place of the one at ``at``."""
        return replace(self, steps=(*self.steps[:at], *new, *self.steps[at + 1 :]))

    def without(self, *gone: int) -> "Program":
        """Return it without some steps. The driver is still restarted where it was."""
        kept: list[Step] = []
        restart = False
        for at, step in enumerate(self.steps):
            if at in gone:
                restart = restart or step.restart
            else:
                kept.append(replace(step, restart=step.restart or (restart and bool(kept))))
                restart = False
        return replace(self, steps=tuple(kept))

    @property
    def key(self) -> object:
        """What tells programs apart: events count by their order alone."""
        return settled(self)


def pairs(steps: Iterable[Step]) -> Iterator[tuple[Step, Step]]:
    """Yield the pairs of steps that are in flight together."""
    flying: list[Step] = []
    for step in steps:
        flying = [other for other in flying if other.meets(step)]
        for other in flying:
            yield other, step
        flying.append(step)


def settled(program: Program) -> Program:
    """Return the program with its events numbered from 0 without gaps."""
    steps = program.steps
    events = sorted(
        [(step.begin, 1, at) for at, step in enumerate(steps)]
        + [(step.end, 0, at) for at, step in enumerate(steps)]
    )
    begin, end = [0] * len(steps), [0] * len(steps)
    for number, (_, is_begin, at) in enumerate(events):
        (begin if is_begin else end)[at] = number
    return replace(
        program,
        steps=tuple(
            replace(step, begin=begin[at], end=end[at]) for at, step in enumerate(steps)
        ),
    )  # fmt: skip


def from_ops(ops: Iterable[tuple[int, Op]], size: int, restarts: Iterable[int]) -> Program:
    """Return a program of a trace's ops, each with its record's number, in the order of submission.
    ``restarts`` are the seqs before which the driver was restarted.

    An op that failed on the reference is left out: it changed nothing there.
    """
    due = sorted(restarts)
    steps: list[Step] = []
    for number, op in ops:
        restart = False
        while due and due[0] <= op.seq:
            restart = bool(steps)
            due.pop(0)
        if op.reference_status:
            continue
        fill = Fill(number=number) if op.kind in CARRIES_DATA else None
        # a completion at the time of a submission comes after it (replay/schedule.py)
        done = NO_TIME if op.completed == NO_TIME else 2 * op.completed + 1
        # connection 0 is the recorder's own, whose ops do not count as a guest's
        connection = op.connection if op.kind == Kind.START else max(1, op.connection)
        steps.append(
            Step(
                op.kind, op.flags, op.offset, op.length, connection, 2 * op.submitted, done,
                fill, restart,
            )
        )  # fmt: skip
    return settled(_as_submitted(Program(size, tuple(steps))))


def _as_submitted(program: Program) -> Program:
    """Return the program with distinct events of submission, in the order of the steps."""
    count = len(program.steps) + 1
    return replace(
        program,
        steps=tuple(
            replace(step, begin=step.begin * count + at, end=step.end * count)
            for at, step in enumerate(program.steps)
        ),
    )


def in_turn(program: Program) -> Program:
    """Return the program with one step in flight at a time."""
    return replace(
        program,
        steps=tuple(
            replace(step, begin=2 * at, end=2 * at + 1) for at, step in enumerate(program.steps)
        ),
    )


def groups(program: Program) -> list[list[Step]] | None:
    """Return the steps in groups: each is submitted at once, when the group before is done. None if
    the program is not made of such groups."""
    found: list[list[Step]] = []
    for step in program.steps:
        if found and all(step.begin < other.end for other in found[-1]) and not step.restart:
            found[-1].append(step)
        elif not found or all(other.end < step.begin for other in found[-1]):
            found.append([step])
        else:
            return None
    return found


def in_groups(program: Program, *, wide: bool) -> Program:
    """Return the program in groups, as near to its order as can be: a step that waits for a part of
    the group before it waits for all of it, or, if ``wide``, for none of it."""
    number, members = 0, [program.steps[0]]
    of = [0]
    for step in program.steps[1:]:
        waits = (one.end < step.begin for one in members)
        if (all(waits) if wide else any(waits)) or step.restart:
            number, members = number + 1, []
        members.append(step)
        of.append(number)
    count = len(program.steps) + 1
    return replace(
        program,
        steps=tuple(
            replace(step, begin=2 * group * count + at, end=(2 * group + 1) * count + at)
            for at, (step, group) in enumerate(zip(program.steps, of, strict=True))
        ),
    )


def _odd(value: int) -> int:
    """Return how far a number of bytes is from being aligned: 0, 1 or 2."""
    return 0 if value % COARSE == 0 else 1 if value % FINE == 0 else 2
