"""What a reopened image may hold: the last durable value of each byte, or a later one."""

from dataclasses import replace

import pytest

from tracer.candidates.durable import Change, Unflushed, broken_promises
from tracer.candidates.evidence import Evidence
from tracer.op import Kind, Op, TrimRule

SIZE = 1024


def change(number: int, offset: int, length: int, *, durable: bool, byte: int = 0) -> Change:
    """A write of one byte's value, or a write zeroes if the byte is 0."""
    kind = Kind.WRITE if byte else Kind.ZERO
    data = bytes([byte]) * length if byte else None
    digest = bytes([byte]) * 16
    op = Op(number, int(kind), 0, offset, length, digest=digest)
    return Change(op, data, durable, after=number, completion_index=number)


def breaks(actual: bytes, *changes: Change, rule: TrimRule = TrimRule.ANY) -> bool:
    """Whether an image of SIZE bytes that reads ``actual`` breaks a promise."""
    return bool(broken_promises([Evidence(0, bytes(SIZE), actual)], changes, rule))


def test_without_a_change_only_zeroes_are_right() -> None:
    assert not breaks(bytes(SIZE))
    assert breaks(bytes(SIZE - 1) + b"x")


def test_a_durable_value_may_not_be_lost() -> None:
    done = change(0, 0, SIZE, durable=True, byte=1)
    assert not breaks(b"\1" * SIZE, done)
    assert breaks(bytes(SIZE), done)


def test_an_unflushed_value_may_be_lost_byte_by_byte() -> None:
    changes = (
        change(0, 0, SIZE, durable=True, byte=1),
        change(1, 0, SIZE, durable=False, byte=2),
        change(2, 0, SIZE, durable=False, byte=3),
    )
    for actual in (b"\1" * SIZE, b"\2" * SIZE, b"\3" * SIZE, b"\1\2\3\1" * (SIZE // 4)):
        assert not breaks(actual, *changes)
    assert breaks(bytes(SIZE), *changes)
    assert breaks(b"\1" * (SIZE - 1) + b"\4", *changes)


def test_a_durable_value_ends_what_was_open_before() -> None:
    changes = (
        change(0, 0, SIZE, durable=False, byte=1),
        change(1, 512, 512, durable=True, byte=2),
    )
    assert not breaks(bytes(512) + b"\2" * 512, *changes)
    assert not breaks(b"\1" * 512 + b"\2" * 512, *changes)
    assert breaks(b"\1" * SIZE, *changes)


def test_unflushed_zeroes_may_be_lost_too() -> None:
    changes = (
        change(0, 0, SIZE, durable=True, byte=1),
        change(1, 100, 200, durable=False),
    )
    assert not breaks(b"\1" * SIZE, *changes)
    assert not breaks(b"\1" * 100 + bytes(200) + b"\1" * 724, *changes)
    assert breaks(b"\1" * 99 + bytes(201) + b"\1" * 724, *changes)


@pytest.mark.parametrize(("rule", "wrong"), [(TrimRule.ANY, False), (TrimRule.OLD_OR_ZERO, True)])
def test_trimmed_bytes_hold_what_the_rule_allows(rule: TrimRule, wrong: bool) -> None:
    trim = Change(Op(1, int(Kind.TRIM), 0, 0, SIZE), None, True, after=1, completion_index=1)
    done = change(0, 0, SIZE, durable=True, byte=1)
    assert not breaks(bytes(SIZE), done, trim, rule=rule)
    assert not breaks(b"\1" * SIZE, done, trim, rule=rule)
    assert breaks(b"\7" * SIZE, done, trim, rule=rule) is wrong


def test_each_piece_is_judged_by_itself() -> None:
    pieces = [Evidence(2048, bytes(4), b"\1\1\1\1"), Evidence(0, bytes(4), b"\2\2\2\2")]
    changes = [change(0, 0, 4096, durable=True, byte=1)]
    assert [piece.offset for piece in broken_promises(pieces, changes, TrimRule.ANY)] == [0]


def test_a_flush_covers_what_had_completed_when_it_was_sent() -> None:
    open_ = Unflushed()
    open_.changed(0)
    open_.flush_sent(1)
    open_.changed(2)
    assert open_.numbers() == {0, 2}
    open_.flush_done(1, True)
    assert open_.numbers() == {2}


def test_a_failed_flush_covers_nothing() -> None:
    open_ = Unflushed()
    open_.changed(0)
    open_.flush_sent(1)
    open_.flush_done(1, False)
    assert open_.numbers() == {0}


def test_flushes_may_complete_out_of_order() -> None:
    open_ = Unflushed()
    open_.changed(0)
    open_.flush_sent(1)
    open_.changed(2)
    open_.flush_sent(3)
    open_.changed(4)
    open_.flush_done(3, True)
    open_.flush_done(1, True)
    assert open_.numbers() == {4}
    assert open_


def test_of_changes_in_flight_together_each_may_be_the_last() -> None:
    first = change(0, 0, SIZE, durable=True, byte=1)
    second = change(1, 0, SIZE, durable=True, byte=2)
    together = replace(first, completion_index=1), replace(second, after=0, completion_index=0)
    assert not breaks(b"\1" * SIZE, *together)
    assert not breaks(b"\2" * SIZE, *together)
    assert breaks(bytes(SIZE), *together)
    assert breaks(b"\1" * SIZE, first, second)
    later = change(2, 0, SIZE, durable=True, byte=3)
    for actual in (b"\1" * SIZE, b"\2" * SIZE):
        assert breaks(actual, *together, later)
