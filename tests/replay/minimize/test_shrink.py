"""How small results get: on every known defect, on faults that need company, on rare ones."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from replay.minimize.lab import Candidate
from replay.minimize.part import Index, Part
from replay.minimize.program import Program, Step, groups
from replay.minimize.shrink import NotAgain, Shrinker
from replay.minimize.writing import data_of
from tests.kit.faulty.defects import TABLE
from tests.kit.faulty.disk import Defect
from tests.kit.faulty.workload import KIB, WORKLOADS, make_trace
from tests.replay.minimize.simulated import lab, shows_defect
from tracer.op import Flag, Kind
from tracer.ranges import RangeSet
from tracer.trace.data import TraceWithData

OPTIMUM = {
    "write-stale": 3, "write-stale-across-clusters": 2, "zero-ignored": 2, "zero-torn": 2,
    "zero-too-long": 2, "zero-misdirected": 2, "trim-too-long": 2, "trim-too-early": 2,
    "trim-gives-cluster-away": 2, "first-flush-misdirects": 2, "flush-zeroes": 3,
    "last-flush-flips-bit": 3, "last-flush-stale": 3, "read-zeroes": 2, "read-stale": 2,
    "delayed-flush": 3, "delayed-write": 2, "overwritten-after-another": 1,
    "flush-zeroes-on-reopen": 3, "stale-on-close": 3, "second-read-returns-wrong": 2,
    "seen-then-overwritten": 2, "crash-on-flush": 1, "false-hole": 2,
    "write-lost-beside-write": 2, "write-lost-beside-zero": 2,
    "write-lost-beside-write-on-reopen": 2, "write-lost-beside-read": 2,
}  # fmt: skip
"""The fewest ops that set off a defect and show it, where that is not one."""


@pytest.mark.parametrize("defect", TABLE, ids=lambda defect: defect.name)
def test_every_defect(tmp_path: Path, defect: Defect) -> None:
    requests, together = WORKLOADS[defect.workload]
    path = make_trace(tmp_path / "t.trace", requests, together=together)
    with TraceWithData(path) as source:
        part = Part(Index.of(source.trace), range(len(requests)))

        def shows(candidate: Candidate) -> bool:
            return shows_defect(
                tmp_path, defect, candidate.program(),
                lambda step: bytes(data_of(step, source) or b""),
            )  # fmt: skip

        focus = RangeSet((one.offset, one.offset + one.length) for one in defect.damage)
        best: list[Candidate] = []
        tested = lab(shows)
        program = Shrinker(tested, best.append).shrink(part, focus)
        assert shows(program)
        assert len(program.steps) <= OPTIMUM.get(defect.name, 1) + 1
        if len(program.steps) > 1:
            for at in range(len(program.steps)):
                assert not shows(program.without(at)), "it is not 1-minimal"
        assert best[-1].program() == program


def random_program(seed: int, count: int = 60) -> Program:
    """Steps on 64 clusters, up to four in flight together."""
    chance = random.Random(seed)
    steps = []
    for at in range(count):
        kind = chance.choice([Kind.WRITE, Kind.TRIM, Kind.ZERO, Kind.READ])
        begin = at // 4 * 8 + at % 4
        steps.append(
            Step(int(kind), 0, chance.randrange(60) * 64 * KIB, 64 * KIB, chance.randrange(1, 4),
                 begin, begin + 4)
        )  # fmt: skip
    return Program(64 << 20, tuple(steps))


def shrunk(program: Program, shows: Callable[[Program], bool]) -> Program:
    """What is left of a program."""
    tested = lab(lambda candidate: shows(candidate.program()))
    return Shrinker(tested, lambda best: None).polish(program)


@pytest.mark.parametrize("seed", range(10))
def test_a_race_keeps_its_two_ops_in_flight(seed: int) -> None:
    program = random_program(seed)
    write = Step(int(Kind.WRITE), int(Flag.FUA), 8 << 20, 128 * KIB, 2, 1000, 1010)
    trim = Step(int(Kind.TRIM), 0, 8 << 20, 64 * KIB, 3, 1001, 1009)
    program = replace(program, steps=(*program.steps, write, trim))

    def races(program: Program) -> bool:
        return any(
            one.kind == Kind.WRITE and other.kind == Kind.TRIM and one.meets(other)
            and one.touches(other)
            for one in program.steps
            for other in program.steps
        )  # fmt: skip

    left = shrunk(program, races)
    assert groups(left) is not None
    assert [(step.kind, step.offset, step.length, step.flags) for step in left.steps] == [
        (Kind.WRITE, 0, 4096, 0), (Kind.TRIM, 0, 4096, 0),
    ]  # fmt: skip
    assert left.size == 64 * KIB or left.size == 4096
    assert len({step.connection for step in left.steps}) == 1


@pytest.mark.parametrize("seed", range(5))
def test_places_move_down_and_keep_their_residues(seed: int) -> None:
    program = random_program(seed, 30)
    odd = Step(int(Kind.WRITE), 0, (5 << 20) + 60 * KIB, 12 * KIB, 1, 500, 501)
    program = replace(program, steps=(*program.steps, odd))

    def crosses(program: Program) -> bool:
        return any(
            step.kind == Kind.WRITE and step.offset % (64 * KIB) == 60 * KIB
            and step.length > 4 * KIB
            for step in program.steps
        )  # fmt: skip

    left = shrunk(program, crosses)
    assert [(step.offset, step.length) for step in left.steps] == [(60 * KIB, 8 * KIB)]


def test_a_fault_that_shows_now_and_then() -> None:
    chance = random.Random(0)
    program = random_program(1, 24)
    pair = program.steps[20:22]

    def shows(program: Program) -> bool:
        kinds = [(step.kind, step.offset) for step in program.steps]
        return all((step.kind, step.offset) in kinds for step in pair) and chance.random() < 0.4

    tested = lab(lambda candidate: shows(candidate.program()))
    left = Shrinker(tested, lambda best: None).polish(program)
    assert len(left.steps) == 2
    assert tested.odds.rate is not None


def test_a_fault_that_never_shows_again() -> None:
    tested = lab(lambda candidate: False)
    with pytest.raises(NotAgain):
        Shrinker(tested, lambda best: None).polish(random_program(0, 8))
