"""Any stream of ops: no difference is ever made up, none is missed, and both sides see one
order."""

from collections import defaultdict, deque
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.data import pattern
from tests.tracer.mirror.bench import (
    SECTORS,
    SIZE,
    Bench,
    Fake,
    Key,
    is_fast,
    many,
    ranges,
    sectors,
)
from tracer.op import MUTATING, SECTOR, Fault, Flag, Kind, Op, TrimRule


@dataclass(frozen=True)
class Step:
    """One step of a run: submit an op, pump, or complete one of those in flight."""

    action: str
    kind: int = 0
    offset: int = 0
    length: int = 0
    flags: int = 0
    fill: int = 0
    pick: int = 0


@st.composite
def steps(draw: st.DrawFn, unit: int = 256) -> Step:
    action = draw(st.sampled_from(["submit", "submit", "submit", "pump", "finish"]))
    if action != "submit":
        return Step(action, pick=draw(st.integers(0, 20)))
    kind = draw(st.sampled_from([kind for kind in Kind if kind != Kind.START]))
    if kind == Kind.FLUSH:
        return Step(action, int(kind))
    offset = draw(st.integers(0, SIZE // unit - 1)) * unit
    length = draw(st.integers(1, min(12 * SECTOR, SIZE - offset) // unit)) * unit
    flags = Flag.FAST_ZERO if kind == Kind.ZERO and draw(st.booleans()) else 0
    return Step(action, int(kind), offset, length, int(flags), draw(st.integers(1, 255)))


class Model:
    """What every byte must be if ops are done in the order of their submission; None where
    trimmed."""

    def __init__(self) -> None:
        self.bytes: list[int | None] = [0] * SIZE
        self.expected: dict[int, list[int | None]] = {}

    def submit(self, op: Op, data: bytes | None) -> None:
        piece = slice(op.offset, op.end)
        if op.kind == Kind.READ:
            self.expected[op.seq] = self.bytes[piece]
        elif op.kind == Kind.WRITE:
            assert data is not None
            self.bytes[piece] = list(data)
        elif op.kind == Kind.TRIM:
            self.bytes[piece] = [None] * op.length
        elif op.kind == Kind.ZERO and (not op.flags & Flag.FAST_ZERO or is_fast(op.offset)):
            self.bytes[piece] = [0] * op.length


def agrees(data: bytes, expected: list[int | None]) -> bool:
    return all(want is None or have == want for have, want in zip(data, expected, strict=True))


def conflict(one: Op, other: Op) -> bool:
    overlap = one.offset < other.end and other.offset < one.end
    return overlap and (one.kind in MUTATING or other.kind in MUTATING)


def play(bench: Bench, todo: list[Step]) -> tuple[Model, list[int]]:
    """Do the steps and let everything finish; also return which ops nothing was in the way of."""
    model, free = Model(), []
    for step in todo:
        if step.action == "pump":
            bench.mirror.pump()
        elif step.action == "finish":
            if bench.fake.pending:
                bench.fake.finish(step.pick % len(bench.fake.pending))
        else:
            over = {flight.op.seq for flight in bench.done}
            data = pattern(step.length, step.fill) if step.kind == Kind.WRITE else None
            op = bench.submit(step.kind, step.offset, step.length, data, step.flags).op
            model.submit(op, data)
            if not any(conflict(op, other) for other in bench.ops[:-1] if other.seq not in over):
                free.append(op.seq)
    picks = iter([step.pick for step in todo] * 100)
    bench.settle(lambda count: next(picks) % count)
    return model, free


def moments(bench: Bench) -> dict[int, tuple[int, int]]:
    """When each op started and ended on the test side. Equal requests are told apart by their
    order: those that change data are never in flight together, and for others it does not
    matter."""
    waiting: dict[Key, deque[int]] = defaultdict(deque)
    running: dict[Key, deque[int]] = defaultdict(deque)
    for op in bench.ops:
        key = (op.kind, op.offset, op.length, bench.payloads[op.seq])
        waiting[key].append(op.seq)
    starts, ends = {}, {}
    for moment, (what, key) in enumerate(bench.fake.log):
        if what == "start":
            seq = waiting[key].popleft()
            running[key].append(seq)
            starts[seq] = moment
        else:
            ends[running[key].popleft()] = moment
    return {seq: (starts[seq], ends[seq]) for seq in starts}


@many
@given(st.lists(steps(), max_size=40))
def test_no_difference_is_ever_made_up(image: Path, todo: list[Step]) -> None:
    bench = Bench(image)
    model, _ = play(bench, todo)
    assert bench.differences == []
    assert sorted(flight.op.seq for flight in bench.done) == list(range(len(bench.ops)))
    for flight in bench.done:
        if flight.op.kind == Kind.READ:
            assert agrees(bytes(flight.data or b""), model.expected[flight.op.seq])
    assert agrees(bench.reference_bytes(), model.bytes)
    assert agrees(bytes(bench.fake.data), model.bytes)
    bench.run(Kind.READ, 0, SIZE)
    assert bench.differences == []
    bench.close()


@many
@given(st.lists(steps(unit=SECTOR), max_size=40))
def test_no_difference_is_made_up_by_the_strict_trim_rule(image: Path, todo: list[Step]) -> None:
    """The driver zeroes what is trimmed or keeps it, sector by sector."""
    bench = Bench(image, Fake(sectors_only=True), "old-or-zero")
    play(bench, todo)
    bench.run(Kind.READ, 0, SIZE)
    assert bench.differences == []
    bench.close()


@many
@given(st.lists(steps(), max_size=40))
def test_order_on_the_test_side(image: Path, todo: list[Step]) -> None:
    bench = Bench(image)
    _, free = play(bench, todo)
    when = moments(bench)
    assert when.keys() == {op.seq for op in bench.ops}
    for one in bench.ops:
        for other in bench.ops[one.seq + 1 :]:
            if conflict(one, other):
                assert when[one.seq][1] < when[other.seq][0], "overlapping ops overtook one another"
    started = [when[seq][0] for seq in free]
    assert started == sorted(started), "ops that nothing held up overtook one another"
    bench.close()


@many
@given(st.lists(steps(), max_size=40))
def test_all_that_may_be_in_flight_is(image: Path, todo: list[Step]) -> None:
    """After a pump, whatever is not on its way has something in flight in its way."""
    bench = Bench(image)
    for step in todo:
        if step.action == "submit":
            data = pattern(step.length, step.fill) if step.kind == Kind.WRITE else None
            bench.submit(step.kind, step.offset, step.length, data, step.flags)
        elif step.action == "finish" and bench.fake.pending:
            bench.fake.finish(step.pick % len(bench.fake.pending))
        bench.mirror.pump()
        over = {flight.op.seq for flight in bench.done}
        active = [op for op in bench.ops if op.seq not in over]
        blocked = [
            op
            for op in active
            if any(conflict(op, other) for other in active if other.seq < op.seq)
        ]
        assert len(bench.fake.pending) == len(active) - len(blocked)
    bench.settle()
    bench.close()


@many
@given(st.lists(steps(unit=SECTOR), max_size=30), st.data())
def test_a_lost_write_is_found_in_its_sectors(
    image: Path, todo: list[Step], data: st.DataObject
) -> None:
    """One write that the driver forgets: reading everything reports the sectors where that
    shows."""
    writes = [
        at for at, step in enumerate(todo) if step.action == "submit" and step.kind == Kind.WRITE
    ]
    bench = Bench(image)
    if writes:
        chosen = todo[data.draw(st.sampled_from(writes))]
        lost = (chosen.kind, chosen.offset, chosen.length, pattern(chosen.length, chosen.fill))
        bench.fake.defect = lambda key: (0, None, []) if key == lost else None
    model, _ = play(bench, [step for step in todo if step.kind != Kind.BLOCK_STATUS])
    early = len(bench.differences)
    bench.run(Kind.READ, 0, SIZE)
    wrong = [
        at
        for at in range(SECTORS)
        if not agrees(
            bytes(bench.fake.data[at * SECTOR : (at + 1) * SECTOR]),
            model.bytes[at * SECTOR : (at + 1) * SECTOR],
        )
    ]
    late = bench.differences[early:]
    found = [
        at for difference in late for first, last in ranges(difference) for at in range(first, last)
    ]
    assert found == wrong
    assert all(difference.fault == Fault.DATA for difference in bench.differences)
    bench.close()


@pytest.mark.parametrize("rule", TrimRule)
def test_junk_in_a_trimmed_sector_is_excused_by_the_loose_rule_alone(
    image: Path, rule: str
) -> None:
    bench = Bench(image, rule=rule)
    bench.run(Kind.WRITE, *sectors(0, 4))
    bench.run(Kind.TRIM, 0, SECTOR * 2)  # the fake leaves question marks
    bench.run(Kind.READ, 0, SIZE)
    assert [ranges(one) for one in bench.differences] == ([] if rule == "any" else [[(0, 2)]])
    bench.close()
