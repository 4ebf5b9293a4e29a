"""A guest's ops, drawn and by chance."""

import random

from hypothesis import strategies as st

from tests.kit.data import MIB
from tracer.op import NO_TIME, SECTOR, Kind, Op

DISK = 8 * MIB


GUEST = [kind for kind in Kind if kind != Kind.START]


@st.composite
def an_op(draw: st.DrawFn) -> Op:
    kind = draw(st.sampled_from(GUEST))
    length = 0 if kind == Kind.FLUSH else draw(st.integers(1, 4096) | st.integers(1, MIB))
    times = st.integers(0, 10_000)
    submitted = draw(times)
    completed = draw(st.just(NO_TIME) | times.map(lambda more: submitted + more))
    ns = st.just(0) | st.integers(1, 10**10)
    return Op(
        0, int(kind), 0, draw(st.integers(0, DISK - length)) if length else 0, length, submitted,
        completed,
        draw(ns), draw(ns), 0, draw(st.sampled_from([0, 0, 0, 5])),
    )  # fmt: skip


@st.composite
def some_ops(draw: st.DrawFn) -> list[Op]:
    many = sorted(draw(st.lists(an_op(), min_size=1, max_size=30)), key=lambda op: op.submitted)
    for seq, op in enumerate(many):
        op.seq = seq
    return many


def some(count: int, seed: int = 0) -> list[Op]:
    """A guest's ops, by chance."""
    chance = random.Random(seed)
    found = []
    for seq in range(count):
        kind = GUEST[chance.randrange(len(GUEST))]
        length = 0 if kind == Kind.FLUSH else SECTOR << chance.randrange(9)
        at = chance.randrange((DISK - length) // SECTOR) * SECTOR if length else 0
        took = chance.randrange(1, 10**6)
        found.append(
            Op(seq, int(kind), 0, at, length, seq * 10**5, seq * 10**5 + took, took // 3 + 1, took)
        )
    return found
