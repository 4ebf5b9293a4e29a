"""Other orders of what was in flight together: as legal as the recorded one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.interleave import interleave, seeds
from replay.schedule import Gate, schedule
from tests.replay.recordings import recordings
from tracer.op import Kind, Op, conflicts


@given(recordings(), st.integers(0, 5), st.integers(1, 8), st.randoms(use_true_random=False))
def test_any_order_is_legal_and_whole(ops: list[Op], seed: int, depth: int, chance: object) -> None:
    for op in ops:  # some overlap, some read
        op.offset = chance.randrange(3) * 512  # type: ignore[attr-defined]
        op.length = 512
        op.kind = int(chance.choice([Kind.READ, Kind.WRITE]))  # type: ignore[attr-defined]
    steps = list(enumerate(schedule(ops)))
    order = [position for position, _ in interleave(steps, seed, depth, hold=True)]
    assert sorted(order) == list(range(len(steps)))
    if not seed or depth == 1:
        assert order == sorted(order)
    place = {position: index for index, position in enumerate(order)}
    for position, step in steps:
        for other in range(position):
            earlier = steps[other][1].op
            if earlier.completed < step.op.submitted or conflicts(earlier, step.op):
                assert place[other] < place[position]


@given(recordings(), st.integers(1, 5))
def test_the_gate_opens_in_any_order(ops: list[Op], seed: int) -> None:
    """With one op in flight: each may start once all those sent before it are done."""
    gate = Gate()
    for _, step in interleave(enumerate(schedule(ops)), seed, 8, hold=True):
        assert gate.open(step)
        gate.done(step)


def together(count: int) -> list[Op]:
    return [
        Op(seq, int(Kind.WRITE), 0, seq * 512, 512, submitted=seq, completed=1000 + seq)
        for seq in range(count)
    ]


def test_seeds_differ_and_each_is_the_same_every_time() -> None:
    def order(seed: int) -> list[int]:
        return [
            position
            for position, _ in interleave(enumerate(schedule(together(8))), seed, 8, hold=True)
        ]

    assert order(0) == list(range(8))
    assert len({tuple(order(seed)) for seed in range(6)}) == 6
    assert order(3) == order(3)


@pytest.mark.parametrize(
    ("given_", "runs", "expected"),
    [(0, 1, [0]), (0, 6, [0, 1, 0, 3, 0, 5]), (4, 3, [4, 4, 4])],
)
def test_every_other_run_keeps_the_recorded_order(
    given_: int, runs: int, expected: list[int]
) -> None:
    assert list(seeds(given_, runs)) == expected
