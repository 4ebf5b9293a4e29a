"""Programs: from a trace and back, and what their order means."""

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from replay.minimize.part import Index, Part
from replay.minimize.passes import PASSES
from replay.minimize.program import (
    Fill,
    Program,
    Step,
    from_ops,
    groups,
    in_groups,
    in_turn,
    pairs,
    settled,
)
from replay.minimize.writing import write_program
from replay.schedule import schedule
from tests.kit.faulty.workload import TOGETHER, WORKLOAD, make_trace
from tests.kit.traces import read_trace
from tests.replay.recordings import recordings
from tracer.digest import digest
from tracer.op import CARRIES_DATA, Kind, Op
from tracer.trace.data import TraceWithData

DISK = 1 << 20


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Programs of any shape."""
    ops = draw(recordings().filter(bool))
    kinds = [Kind.WRITE, Kind.READ, Kind.ZERO, Kind.TRIM, Kind.FLUSH]
    for op in ops:
        op.kind = int(draw(st.sampled_from(kinds)))
        op.length = 0 if op.kind == Kind.FLUSH else draw(st.integers(1, 200_000))
        op.offset = draw(st.integers(0, DISK - op.length)) if op.length else 0
        op.flags = draw(st.sampled_from([0, 1]))
        op.connection = draw(st.integers(1, 3))
    ordered = sorted(ops, key=lambda op: op.seq)
    program = from_ops(enumerate(ordered), DISK, ())
    steps = tuple(
        replace(step, fill=Fill(byte=7) if step.kind in CARRIES_DATA else None)
        for step in program.steps
    )
    return replace(program, steps=steps)


def waits(ops: list[Op]) -> list[set[int]]:
    """By op in the order of submission, the places of the ops that were done before it."""
    ordered = sorted(ops, key=lambda op: op.seq)
    return [
        {at for at, other in enumerate(ordered) if other.completed < op.submitted} for op in ordered
    ]


def waits_of(program: Program) -> list[set[int]]:
    """The same of steps."""
    return [
        {at for at, other in enumerate(program.steps) if other.end < step.begin}
        for step in program.steps
    ]


@given(recordings())
def test_a_program_waits_as_its_trace_does(ops: list[Op]) -> None:
    ordered = sorted(ops, key=lambda op: op.seq)
    program = from_ops(enumerate(ordered), DISK, ())
    assert waits_of(program) == waits(ops)
    assert waits_of(settled(program)) == waits(ops)


def test_a_trace_comes_back_as_it_was(tmp_path: Path) -> None:
    for name, requests, together in (("a", WORKLOAD, 1), ("b", TOGETHER, 2)):
        path = make_trace(tmp_path / f"{name}.trace", requests, together=together)
        with TraceWithData(path) as source:
            program = Part(Index.of(source.trace), range(len(requests))).program()
            write_program(tmp_path / "again.trace", program, source)
        before, after = read_trace(path)[1], read_trace(tmp_path / "again.trace")[1]
        assert [op.digest for op in after] == [op.digest for op in before]
        assert [(op.kind, op.offset, op.length, op.flags) for op in after] == [
            (op.kind, op.offset, op.length, op.flags) for op in before
        ]
        assert waits(after) == waits(before)
        assert [step.after for step in schedule(after)] == [step.after for step in schedule(before)]


def test_a_piece_of_what_was_recorded_stays_the_same_piece(tmp_path: Path) -> None:
    path = make_trace(tmp_path / "a.trace", WORKLOAD)
    with TraceWithData(path) as source:
        program = Part(Index.of(source.trace), [18]).program()
        step = program.steps[0].resized(62 << 10, 4096)
        write_program(tmp_path / "b.trace", program.with_step(0, step), source)
        whole = source.data(source.trace.op(18))
    assert whole is not None
    op = read_trace(tmp_path / "b.trace")[1][0]
    assert op.digest == digest(bytes(whole[2048 : 2048 + 4096]))


@given(programs())
def test_what_the_passes_make_is_a_program(program: Program) -> None:
    for whole, stepwise in PASSES:
        made = list(whole(program)) if whole is not None else []
        if stepwise is not None:
            for at in range(len(program.steps)):
                made += stepwise(program, at)
        for candidate in made:
            assert candidate.steps
            begins = [step.begin for step in candidate.steps]
            assert begins == sorted(begins)
            for step in candidate.steps:
                assert 0 <= step.offset <= step.stop <= candidate.size
                assert step.begin < step.end
                assert (step.length > 0) == (step.kind != Kind.FLUSH)
                assert (step.fill is not None) == (step.kind in CARRIES_DATA)


@given(programs())
def test_in_turn_and_in_groups(program: Program) -> None:
    assert list(pairs(in_turn(program).steps)) == []
    for wide in (False, True):
        grouped = in_groups(program, wide=wide)
        found = groups(grouped)
        assert found is not None
        assert [step for group in found for step in group] == list(grouped.steps)
        for group in found:
            for at, step in enumerate(group):
                assert all(step.meets(other) for other in group[:at])


def test_fewer_ops_come_before_all_else() -> None:
    write = Step(int(Kind.WRITE), 0, 0, 4096, 1, 0, 1, Fill(byte=1))
    long = replace(write, length=1 << 20, flags=1, connection=9, offset=1 << 30)
    assert Program(1 << 40, (long,)).measure < Program(4096, (write, write)).measure
    assert Program(8192, (write,)).measure < Program(1 << 20, (write,)).measure
