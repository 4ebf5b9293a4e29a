"""What an op does to the disk, and which ops conflict: the facts that everything else derives
from."""

import errno
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.op import (
    NO_EFFECT,
    SECTOR,
    Effect,
    Flag,
    Kind,
    Leaves,
    Op,
    Promise,
    TrimRule,
    changing_kinds,
    conflicting,
    conflicts,
    effect,
    sectors,
)

DATA = b"d" * 16
"""A digest that is not that of zeroes."""

ANY, OLD_OR_ZERO = TrimRule

WROTE = Effect(Leaves.DATA, Promise.EQUAL)
ZEROED = Effect(Leaves.ZEROES, Promise.EQUAL)

EFFECTS = {
    (Kind.READ, ANY): NO_EFFECT,
    (Kind.READ, OLD_OR_ZERO): NO_EFFECT,
    (Kind.WRITE, ANY): WROTE,
    (Kind.WRITE, OLD_OR_ZERO): WROTE,
    (Kind.FLUSH, ANY): NO_EFFECT,
    (Kind.FLUSH, OLD_OR_ZERO): NO_EFFECT,
    (Kind.TRIM, ANY): Effect(Leaves.ZEROES, Promise.TRIMMED),
    (Kind.TRIM, OLD_OR_ZERO): Effect(Leaves.OLD, Promise.TRIMMED),
    (Kind.CACHE, ANY): NO_EFFECT,
    (Kind.CACHE, OLD_OR_ZERO): NO_EFFECT,
    (Kind.ZERO, ANY): ZEROED,
    (Kind.ZERO, OLD_OR_ZERO): ZEROED,
    (Kind.BLOCK_STATUS, ANY): NO_EFFECT,
    (Kind.BLOCK_STATUS, OLD_OR_ZERO): NO_EFFECT,
    (Kind.START, ANY): WROTE,
    (Kind.START, OLD_OR_ZERO): WROTE,
}

CHANGING = [Kind.WRITE, Kind.TRIM, Kind.ZERO, Kind.START]


def test_no_effect_leaves_everything() -> None:
    assert Effect(Leaves.OLD, Promise.KEPT) == NO_EFFECT


@pytest.mark.parametrize(("kind", "rule"), list(product(Kind, TrimRule)))
def test_the_effect_of_a_success(kind: Kind, rule: TrimRule) -> None:
    assert effect(Op(0, int(kind), digest=DATA), rule) == EFFECTS[kind, rule]


@pytest.mark.parametrize(("kind", "rule"), list(product((Kind.WRITE, Kind.START), TrimRule)))
def test_a_payload_of_zeroes_leaves_zeroes(kind: Kind, rule: TrimRule) -> None:
    assert effect(Op(0, int(kind)), rule) == ZEROED


@pytest.mark.parametrize(("kind", "rule"), list(product(CHANGING, TrimRule)))
def test_a_failure_on_the_reference_leaves_it_as_it_was(kind: Kind, rule: TrimRule) -> None:
    failed = Op(0, int(kind), reference_status=errno.EIO, digest=DATA)
    assert effect(failed, rule) == Effect(Leaves.OLD, Promise.UNKNOWN)


@pytest.mark.parametrize(("kind", "rule"), list(product(CHANGING, TrimRule)))
def test_a_failure_on_the_test_side_alone_changes_the_reference(kind: Kind, rule: TrimRule) -> None:
    failed = Op(0, int(kind), test_status=errno.ENOSPC, digest=DATA)
    assert effect(failed, rule) == Effect(EFFECTS[kind, rule].leaves, Promise.UNKNOWN)


@pytest.mark.parametrize(
    ("kind", "rule"), list(product((Kind.READ, Kind.FLUSH, Kind.CACHE), TrimRule))
)
def test_a_failure_of_what_changes_nothing(kind: Kind, rule: TrimRule) -> None:
    failed = Op(0, int(kind), reference_status=errno.EIO, test_status=errno.EIO)
    assert effect(failed, rule) == NO_EFFECT


@pytest.mark.parametrize("rule", TrimRule)
@pytest.mark.parametrize("reference", [0, errno.ENOTSUP])
def test_a_fast_zero_that_is_refused_did_nothing(rule: TrimRule, reference: int) -> None:
    op = Op(0, Kind.ZERO, Flag.FAST_ZERO | Flag.FUA, test_status=errno.ENOTSUP)
    op.reference_status = reference
    assert op.refused
    assert effect(op, rule) == NO_EFFECT


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        (Flag.FAST_ZERO, 0),
        (Flag.FAST_ZERO, errno.EIO),
        (Flag.NO_HOLE, errno.ENOTSUP),
        (0, errno.ENOTSUP),
    ],
)
def test_other_zeroes_are_not_refused(flags: int, status: int) -> None:
    op = Op(0, Kind.ZERO, int(flags), test_status=status)
    assert not op.refused
    assert effect(op, ANY).promise is (Promise.UNKNOWN if status else Promise.EQUAL)


def test_which_kinds_change_the_reference() -> None:
    assert changing_kinds(ANY) == {Kind.WRITE, Kind.TRIM, Kind.ZERO, Kind.START}
    assert changing_kinds(OLD_OR_ZERO) == {Kind.WRITE, Kind.ZERO, Kind.START}


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        (Kind.WRITE, Kind.WRITE, True),
        (Kind.WRITE, Kind.READ, True),
        (Kind.READ, Kind.TRIM, True),
        (Kind.ZERO, Kind.BLOCK_STATUS, True),
        (Kind.START, Kind.CACHE, True),
        (Kind.READ, Kind.READ, False),
        (Kind.READ, Kind.CACHE, False),
        (Kind.BLOCK_STATUS, Kind.READ, False),
    ],
)
def test_kinds_that_conflict_on_the_same_bytes(one: Kind, other: Kind, wanted: bool) -> None:
    a, b = Op(0, int(one), 0, 512, 1024), Op(1, int(other), 0, 1024, 512)
    assert conflicts(a, b) == conflicts(b, a) == wanted


@pytest.mark.parametrize(
    ("start", "end", "wanted"),
    [
        (0, 512, False), (0, 513, True), (512, 513, True), (700, 701, True), (1023, 1024, True),
        (1023, 9999, True), (1024, 2048, False), (0, 4096, True),
    ],
)  # fmt: skip
def test_only_an_overlap_is_a_conflict(start: int, end: int, wanted: bool) -> None:
    write, read = Op(0, Kind.WRITE, 0, 512, 512), Op(1, Kind.READ, 0, start, end - start)
    assert conflicts(write, read) == conflicts(read, write) == wanted


def test_a_flush_conflicts_with_nothing() -> None:
    assert not conflicts(Op(0, Kind.FLUSH), Op(1, Kind.WRITE, 0, 0, 512))


OPS = st.builds(
    lambda seq, kind, start, length: Op(seq, int(kind), 0, start, length),
    st.integers(0, 99), st.sampled_from(Kind), st.integers(0, 40), st.integers(1, 20),
)  # fmt: skip


@given(OPS, st.lists(OPS, max_size=20))
def test_conflicting_is_conflicts_one_by_one(op: Op, others: list[Op]) -> None:
    def touched(one: Op) -> set[int]:
        return set(range(one.offset, one.offset + one.length))

    wanted = [
        other
        for other in others
        if touched(op) & touched(other) and {op.kind, other.kind} & {int(kind) for kind in CHANGING}
    ]
    assert list(conflicting(op, others)) == wanted
    assert [other for other in others if conflicts(op, other)] == wanted


@pytest.mark.parametrize(
    ("start", "end", "wanted"),
    [(0, 512, [0]), (0, 513, [0, 1]), (511, 513, [0, 1]), (512, 1024, [1]), (600, 700, [1])],
)
def test_the_sectors_of_bytes(start: int, end: int, wanted: list[int]) -> None:
    assert list(sectors(start, end)) == wanted
    assert list(Op(0, Kind.READ, 0, start, end - start).sectors) == wanted


def test_an_op_in_words() -> None:
    op = Op(12, Kind.WRITE, Flag.FUA, 8 * SECTOR, 4096)
    assert op.describe() == "#12 write 4096 B at sector 8 (8 sectors) FUA"
    assert Op(3, Kind.FLUSH).describe() == "#3 flush"
