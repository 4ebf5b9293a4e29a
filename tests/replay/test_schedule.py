"""Order and concurrency as recorded: the schedule and its gate."""

import random

from hypothesis import given
from hypothesis import strategies as st

from replay.schedule import Gate, Step, schedule
from tests.replay.recordings import recordings
from tracer.op import Kind, Op


@given(recordings())
def test_steps_come_in_the_order_of_submission_with_what_must_precede_them(ops: list[Op]) -> None:
    steps = list(schedule(ops))
    assert [step.op for step in steps] == sorted(ops, key=lambda op: op.seq)
    for step in steps:
        assert ops[step.completion_index] is step.op
        assert step.after == sum(op.completed < step.op.submitted for op in ops)


@given(recordings(), st.randoms(use_true_random=False))
def test_what_was_ordered_stays_ordered_and_what_was_together_may_be(
    ops: list[Op], chance: random.Random
) -> None:
    gate, done, flying = Gate(), [], []
    for step in schedule(ops):
        while not gate.open(step):
            finished = flying.pop(
                chance.randrange(len(flying))
            )  # fails if nothing can open the gate
            gate.done(finished)
            done.append(finished.op)
        must = [op for op in ops if op.completed < step.op.submitted]
        assert all(op in done for op in must)
        flying.append(step)
    # and no more than that is waited for: with everything before it done, a step may start
    for step in schedule(ops):
        gate = Gate()
        for other in schedule(ops):
            if other.op.completed < step.op.submitted:
                gate.done(other)
        assert gate.open(step)


def test_an_op_that_never_completed_does_not_hold_back_the_rest() -> None:
    ops = [Op(seq, int(Kind.FLUSH), submitted=seq * 2, completed=seq * 2 + 1) for seq in (0, 2, 3)]
    assert [(step.op.seq, step.after) for step in schedule(ops)] == [(0, 0), (2, 1), (3, 2)]


def test_the_gate_counts_completions_in_their_recorded_order() -> None:
    op, gate = Op(0, int(Kind.FLUSH)), Gate()
    gate.done(Step(op, 0, 1))
    assert not gate.open(Step(op, 1, 9))
    gate.done(Step(op, 0, 0))
    assert gate.open(Step(op, 2, 9))
    assert not gate.open(Step(op, 3, 9))
