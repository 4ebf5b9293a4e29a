"""The model of conflicts against brute force: it blames a driver exactly when no order of the ops,
each at one moment between its submission and its completion, explains what reads returned.

Writes and reads of one sector, with every order of submissions and completions, and every value
that a read could return.
"""

import random
from collections.abc import Iterator
from itertools import permutations, product

import pytest

from tests.kit.memory import Memory
from tests.tracer.mirror.bench import Fake
from tracer.mirror.comparison import Comparison
from tracer.mirror.flight import Flight
from tracer.mirror.mirror import Mirror
from tracer.op import SECTOR, Kind, Op

Event = tuple[str, int]
"""``submit`` or ``complete``, and the number of the op."""

BASE = -1
"""In place of an op's number: what the sector held before."""


def histories(count: int) -> Iterator[tuple[Event, ...]]:
    """Every order of submissions and completions. Ops are numbered in the order of submission."""

    def more(
        done: tuple[Event, ...], submitted: int, open_: frozenset[int]
    ) -> Iterator[tuple[Event, ...]]:
        if len(done) == 2 * count:
            yield done
        if submitted < count:
            yield from more((*done, ("submit", submitted)), submitted + 1, open_ | {submitted})
        for op in sorted(open_):
            yield from more((*done, ("complete", op)), submitted, open_ - {op})

    return more((), 0, frozenset())


def explained(history: tuple[Event, ...], kinds: tuple[str, ...], returned: dict[int, int]) -> bool:
    """Whether some order of the ops explains what the reads returned."""
    place = {event: at for at, event in enumerate(history)}
    count = len(kinds)
    before = [
        (a, b)
        for a in range(count)
        for b in range(count)
        if place["complete", a] < place["submit", b]
    ]
    for order in permutations(range(count)):
        at = {op: index for index, op in enumerate(order)}
        if any(at[a] > at[b] for a, b in before):
            continue
        held = BASE
        for op in order:
            if kinds[op] == "w":
                held = op
            elif returned[op] != held:
                break
        else:
            return True
    return False


def value(op: int) -> bytes:
    return bytes([op + 2]) * SECTOR


def blamed(history: tuple[Event, ...], kinds: tuple[str, ...], returned: dict[int, int]) -> bool:
    """Whether the mirror blames a driver whose reads return that."""
    fake, wrong = Fake(), False

    def done(flight: Flight) -> None:
        nonlocal wrong
        wrong = wrong or bool(flight.differences)

    mirror = Mirror(Memory(value(BASE)), fake, Comparison(), done)
    answers = {}
    for what, number in history:
        if what == "submit":
            writes = kinds[number] == "w"
            op = Op(number, int(Kind.WRITE if writes else Kind.READ), 0, 0, SECTOR)
            mirror.submit(Flight(op, value(number) if writes else None))
            mirror.pump()
            answers[number] = fake.pending.pop()[-1]
        else:
            data = None if kinds[number] == "w" else value(returned[number])
            answers[number](0, data, [])
        mirror.apply()
    return wrong


def cases(count: int) -> Iterator[tuple[tuple[Event, ...], tuple[str, ...], dict[int, int]]]:
    """Every history of ``count`` ops and a last read, with every value that reads may return."""
    last = ("submit", count), ("complete", count)
    for history in histories(count):
        for kinds in product("wr", repeat=count):
            writes = [op for op in range(count) if kinds[op] == "w"]
            reads = [op for op in range(count) if kinds[op] == "r"] + [count]
            for values in product([BASE, *writes], repeat=len(reads)):
                yield (*history, *last), (*kinds, "r"), dict(zip(reads, values, strict=True))


def check(history: tuple[Event, ...], kinds: tuple[str, ...], returned: dict[int, int]) -> bool:
    """Compare the mirror with brute force. Return whether the driver is to blame."""
    right = explained(history, kinds, returned)
    assert blamed(history, kinds, returned) is not right, (history, kinds, returned)
    return not right


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_history_of_few_ops(count: int) -> None:
    found = [check(*case) for case in cases(count)]
    assert any(found)
    assert not all(found)


def test_histories_of_four_ops() -> None:
    chosen = random.Random(4)
    found = [check(*case) for case in cases(4) if chosen.random() < 0.01]
    assert any(found)
    assert not all(found)
