"""The passes of the shrinker: how a program may become simpler.

``WHOLE`` has passes that change all of a program, ``STEPWISE`` those that change one step. Each
yields candidates, the simplest first. The order of the passes is that of the measure: what is
removed first makes what follows cheaper.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from replay.minimize.program import (
    COARSE,
    Fill,
    Program,
    Step,
    groups,
    in_groups,
    in_turn,
    settled,
)
from tracer.op import Kind
from tracer.ranges import RangeSet

CLUSTERS = (2 << 20, 64 << 10, COARSE, 512)
"""Bytes of clusters whose residues are kept when ops move: those of most formats, pages, sectors.
"""

SIZES = (64 << 10, 1 << 20, 16 << 20)
"""Disks are made a multiple of one of these. Some drivers want whole MiB."""

GAP = 1
"""Clusters left between places that were apart, if next to each other they hide the fault."""

MOST_PAIRED = 8
"""Steps of a program in which every two are left out together: 28 pairs."""


# ---------------------------------------------------------------- steps


def leave_out(program: Program, at: int) -> Iterator[Program]:
    """Leave a step out."""
    if len(program.steps) > 1:
        yield program.without(at)


def leave_out_two(program: Program, at: int) -> Iterator[Program]:
    """Leave out a step and another: some only make sense together."""
    if 2 < len(program.steps) <= MOST_PAIRED:
        for other in range(at):
            yield program.without(at, other)


def leave_out_and_zero(program: Program, at: int) -> Iterator[Program]:
    """Leave a step out, and make a trim a zero. After a trim the disk may hold anything: where it
    must hold zeroes, fewer steps show damage."""
    if len(program.steps) > 1:
        for other, step in enumerate(program.steps):
            if step.kind == Kind.TRIM and other != at:
                zeroed = program.with_step(other, replace(step, kind=int(Kind.ZERO)))
                yield zeroed.without(at)


def keep_running(program: Program, at: int) -> Iterator[Program]:
    """Do not restart the driver before a step."""
    if program.steps[at].restart:
        yield program.with_step(at, replace(program.steps[at], restart=False))


# ---------------------------------------------------------------- what is in flight together


def one_at_a_time(program: Program) -> Iterator[Program]:
    """Have one step in flight at a time."""
    yield in_turn(program)


def as_groups(program: Program) -> Iterator[Program]:
    """Make groups that start together, one after the other, as a script can."""
    if groups(program) is None:
        for wide in (False, True):
            yield in_groups(program, wide=wide)


def alone(program: Program, at: int) -> Iterator[Program]:
    """Have a step in flight with nothing else: after the others of now, or before them."""
    step = program.steps[at]
    if not any(other.meets(step) for other in program.steps if other is not step):
        return
    count = len(program.steps) + 2
    for after in (True, False):
        rest, moved = [], None
        # all events get room between them; the step takes a place of its own
        for other in program.steps:
            scaled = replace(other, begin=other.begin * count, end=other.end * count)
            if other is step:
                moved = scaled
            else:
                rest.append(scaled)
        assert moved is not None
        meets = [other for other in rest if other.meets(moved)]
        if after:
            edge = max(other.end for other in meets)
            moved = replace(moved, begin=edge + 1, end=edge + 2)
            rest = [
                replace(other, begin=other.begin + 2) if other.begin > edge else other
                for other in rest
            ]
        else:
            edge = min(other.begin for other in meets)
            moved = replace(moved, begin=edge - 2, end=edge - 1)
        steps = sorted([*rest, moved], key=lambda one: one.begin)
        if all(one.begin < one.end for one in steps):
            yield settled(replace(program, steps=tuple(steps)))


def one_connection(program: Program) -> Iterator[Program]:
    """Send everything on one connection."""
    yield replace(
        program,
        steps=tuple(
            step if step.kind == Kind.START else replace(step, connection=1)
            for step in program.steps
        ),
    )


def another_connection(program: Program, at: int) -> Iterator[Program]:
    """Send a step on the connection of another."""
    step = program.steps[at]
    for connection in sorted({other.connection for other in program.steps} - {step.connection}):
        yield program.with_step(at, replace(step, connection=connection))


# ---------------------------------------------------------------- what a step is


def no_flags(program: Program) -> Iterator[Program]:
    """Drop all flags."""
    yield replace(program, steps=tuple(replace(step, flags=0) for step in program.steps))


def fewer_flags(program: Program, at: int) -> Iterator[Program]:
    """Drop the flags of a step, then one of them."""
    step = program.steps[at]
    if step.flags:
        yield program.with_step(at, replace(step, flags=0))
        for bit in range(step.flags.bit_length()):
            if step.flags >> bit & 1:
                yield program.with_step(at, replace(step, flags=step.flags & ~(1 << bit)))


def patterns(program: Program) -> Iterator[Program]:
    """Write patterns: a byte of its own for each step, from 1 on."""
    yield replace(program, steps=tuple(_pattern(step, at) for at, step in enumerate(program.steps)))


def pattern(program: Program, at: int) -> Iterator[Program]:
    """Write a pattern in one step."""
    yield program.with_step(at, _pattern(program.steps[at], at))


def _pattern(step: Step, at: int) -> Step:
    return step if step.fill is None else replace(step, fill=Fill(byte=at % 255 + 1))


# ---------------------------------------------------------------- where, and how long


def shorter_together(program: Program, at: int) -> Iterator[Program]:
    """Shorten a step, and all others of the same range with it."""
    step = program.steps[at]
    same = [other for other in program.steps if _range(other) == _range(step)]
    if len(same) > 1:
        for offset, length in _shorter(step):
            steps = (
                other.resized(offset, length) if other in same else other for other in program.steps
            )
            yield replace(program, steps=tuple(steps))


def shorter(program: Program, at: int) -> Iterator[Program]:
    """Shorten a step."""
    step = program.steps[at]
    for offset, length in _shorter(step):
        yield program.with_step(at, step.resized(offset, length))


def _shorter(step: Step) -> Iterator[tuple[int, int]]:
    """Yield shorter ranges inside the range of a step: the shortest first."""
    start, stop = step.offset, step.stop
    for unit in (COARSE, 64 << 10):
        if step.length > unit:
            yield start, unit
            yield stop - unit, unit
    half = step.length // 2 // COARSE * COARSE
    if half > COARSE:
        yield start, step.length - half
        yield start + half, step.length - half
    if step.length > COARSE:
        yield start, (step.length - 1) // COARSE * COARSE
    elif step.length > 512:
        yield start, 512
        yield stop - 512, 512
    elif step.length > 1:
        yield start, 1


def aligned(program: Program, at: int) -> Iterator[Program]:
    """Align the range of a step, outward or inward."""
    step = program.steps[at]
    if step.kind == Kind.FLUSH:
        return
    for unit in (COARSE, 512):
        start, stop = step.offset // unit * unit, -(-step.stop // unit) * unit
        if stop <= program.size:
            yield program.with_step(at, step.resized(start, stop - start))
        start, stop = -(-step.offset // unit) * unit, step.stop // unit * unit
        if start < stop:
            yield program.with_step(at, step.resized(start, stop - start))


def _range(step: Step) -> tuple[int, int]:
    return step.offset, step.length


def down(program: Program) -> Iterator[Program]:
    """Move all places down, next to each other or with a gap, by whole clusters."""
    for cluster in CLUSTERS:
        islands = _islands(program, cluster)
        for gap in (0, GAP):
            target, moves = 0, []
            for start, stop in islands:
                moves.append((start, stop, start - target if start > target else 0))
                target = max(target, start - moves[-1][2]) + stop - start + gap * cluster
            if any(by for _, _, by in moves):
                yield _shifted(program, moves)


def one_down(program: Program, at: int) -> Iterator[Program]:
    """Move the place of a step down, and all steps at that place with it."""
    step = program.steps[at]
    if step.kind == Kind.FLUSH:
        return
    for cluster in CLUSTERS:
        islands = _islands(program, cluster)
        own = next(one for one in islands if one[0] <= step.offset < one[1])
        free = RangeSet([(0, own[0])])
        for start, stop in islands:
            free.remove(start, stop)
        for start, stop in free:
            if stop - start >= own[1] - own[0]:
                yield _shifted(program, [(*own, own[0] - start)])
                break


def _islands(program: Program, cluster: int) -> list[tuple[int, int]]:
    """Return the bytes of the clusters that steps touch, as ranges that do not touch."""
    touched = RangeSet((step.offset, step.stop) for step in program.steps)
    return list(touched.aligned(cluster))


def _shifted(program: Program, moves: list[tuple[int, int, int]]) -> Program:
    """Return the program with what is in each range moved down by so many bytes."""
    steps = []
    for step in program.steps:
        by = next(
            (by for start, stop, by in moves if start <= step.offset and step.stop <= stop), 0
        )
        steps.append(step if not step.length else replace(step, offset=step.offset - by))
    return replace(program, steps=tuple(steps))


def smaller_disk(program: Program) -> Iterator[Program]:
    """Make the disk smaller."""
    used = max((step.stop for step in program.steps), default=0)
    for unit in SIZES:
        size = max(unit, -(-used // unit) * unit)
        if size < program.size:
            yield replace(program, size=size)
    if used and used < program.size:
        yield replace(program, size=used)


Whole = Callable[[Program], Iterator[Program]]
Stepwise = Callable[[Program, int], Iterator[Program]]

PASSES: tuple[tuple[Whole | None, Stepwise | None], ...] = (
    (None, leave_out),
    (None, leave_out_two),
    (None, leave_out_and_zero),
    (None, keep_running),
    (one_at_a_time, alone),
    (as_groups, None),
    (one_connection, another_connection),
    (no_flags, fewer_flags),
    (patterns, pattern),
    (None, shorter_together),
    (None, aligned),
    (None, shorter),
    (down, one_down),
    (smaller_disk, None),
)
"""The passes in their order: what is tried with all of a program, then with each step."""
