"""What counts as a difference, and what a trim or a failed write excuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.traces import changed
from tracer.mirror.comparison import Comparison
from tracer.op import SECTOR, Kind, TrimRule

OLD = b"o" * SECTOR
NEW = b"n" * SECTOR
ZEROES = bytes(SECTOR)

READS = (Kind.READ, Kind.FLUSH, Kind.CACHE, Kind.BLOCK_STATUS)


def found(
    comparison: Comparison, expected: bytes, actual: bytes, at: int = 0
) -> list[tuple[int, int]]:
    return list(comparison.differences(expected, actual, at))


def test_equal_bytes_are_equal() -> None:
    assert found(Comparison(), OLD, OLD) == []


def test_a_difference_is_a_whole_sector() -> None:
    assert found(Comparison(), OLD * 3, OLD + b"o" * 511 + b"x" + OLD) == [(512, 1024)]


def test_neighbouring_sectors_are_one_range() -> None:
    assert found(Comparison(), OLD * 4, NEW * 2 + OLD + NEW) == [(0, 1024), (1536, 2048)]


def test_the_ends_of_an_unaligned_read_are_cut() -> None:
    assert found(Comparison(), b"a" * 1000, b"b" * 1000, 300) == [(300, 1300)]


@pytest.mark.parametrize("rule", TrimRule)
def test_a_trim_may_zero_or_keep(rule: TrimRule) -> None:
    comparison = Comparison(rule)
    comparison.done(changed(Kind.TRIM, 0, 1024, failed=False))
    assert found(comparison, OLD * 3, ZEROES + OLD * 2) == []


def test_trimmed_bytes_may_be_anything_by_the_loose_rule_alone() -> None:
    for rule, wanted in ((TrimRule.ANY, []), (TrimRule.OLD_OR_ZERO, [(0, 512)])):
        comparison = Comparison(rule)
        comparison.done(changed(Kind.TRIM, 0, 512, failed=False))
        assert found(comparison, OLD, NEW) == wanted


@pytest.mark.parametrize("rule", TrimRule)
def test_a_trim_excuses_nothing_outside(rule: TrimRule) -> None:
    comparison = Comparison(rule)
    comparison.done(changed(Kind.TRIM, 512, 1024, failed=False))
    assert found(comparison, OLD * 3, ZEROES * 3) == [(0, 512), (1024, 1536)]


@pytest.mark.parametrize("rule", TrimRule)
@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.ZERO, Kind.START])
def test_rewritten_bytes_are_defined_again(rule: TrimRule, kind: Kind) -> None:
    comparison = Comparison(rule)
    comparison.done(changed(Kind.TRIM, 0, 2048, failed=False))
    comparison.done(changed(Kind.WRITE, 512, 1536, failed=True))
    assert not comparison.defined(0, 512)
    comparison.done(changed(kind, 0, 2048, failed=False))
    assert comparison.defined(0, 2048)
    assert found(comparison, OLD * 4, OLD + NEW * 2 + OLD) == [(512, 1536)]


@pytest.mark.parametrize("rule", TrimRule)
@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.ZERO, Kind.TRIM])
def test_what_a_failed_change_leaves_is_unknown(rule: TrimRule, kind: Kind) -> None:
    comparison = Comparison(rule)
    comparison.done(changed(kind, 0, 512, failed=True))
    assert found(comparison, OLD * 2, NEW * 2) == [(512, 1024)]


@pytest.mark.parametrize("rule", TrimRule)
def test_a_trim_does_not_make_unknown_bytes_known(rule: TrimRule) -> None:
    comparison = Comparison(rule)
    comparison.done(changed(Kind.WRITE, 0, 512, failed=True))
    comparison.done(changed(Kind.TRIM, 0, 512, failed=False))
    assert found(comparison, OLD, NEW) == []


@pytest.mark.parametrize("kind", READS)
@pytest.mark.parametrize("failed", [True, False])
def test_what_changes_nothing_excuses_nothing(kind: Kind, failed: bool) -> None:
    comparison = Comparison()
    comparison.done(changed(kind, 0, 512, failed=failed))
    assert comparison.defined(0, 512)
    assert found(comparison, OLD, NEW) == [(0, 512)]


def test_a_sector_that_was_trimmed_in_part() -> None:
    comparison = Comparison()
    comparison.done(changed(Kind.TRIM, 100, 200, failed=False))
    actual = bytearray(OLD)
    actual[100:200] = b"x" * 100
    assert found(comparison, OLD, bytes(actual)) == []
    actual[200] = 0
    assert found(comparison, OLD, bytes(actual)) == [(0, 512)]


def test_the_strict_rule_goes_by_byte() -> None:
    comparison = Comparison(TrimRule.OLD_OR_ZERO)
    comparison.done(changed(Kind.TRIM, 0, 1024, failed=False))
    half = bytes(256) + OLD[256:]
    assert found(comparison, OLD * 2, ZEROES + half) == []
    other = bytes(255) + bytes([OLD[255] ^ 1]) + OLD[256:]
    assert found(comparison, OLD * 2, ZEROES + other) == [(512, 1024)]


def test_the_strict_rule_holds_for_each_trim_by_itself() -> None:
    """A driver that zeroes whole trimmed sectors and leaves trims of less alone."""
    comparison = Comparison(TrimRule.OLD_OR_ZERO)
    comparison.done(changed(Kind.TRIM, 0, 512, failed=False))  # zeroed
    comparison.done(changed(Kind.WRITE, 0, 256, failed=False))
    comparison.done(changed(Kind.TRIM, 0, 256, failed=False))  # kept
    assert found(comparison, NEW[:256] + OLD[256:], NEW[:256] + ZEROES[256:]) == []


# ---------------------------------------------------------------- against a byte-wise model

DISK = 6 * SECTOR
UNIT = 64


@st.composite
def changes(draw: st.DrawFn) -> tuple[int, int, int, bool]:
    start = draw(st.integers(0, DISK // UNIT - 1)) * UNIT
    end = draw(st.integers(start // UNIT + 1, DISK // UNIT)) * UNIT
    kind = draw(st.sampled_from([Kind.WRITE, Kind.ZERO, Kind.TRIM, Kind.READ]))
    return int(kind), start, end, draw(st.integers(0, 4)) == 0


@given(st.sampled_from(TrimRule), st.lists(changes(), max_size=12), st.data())
def test_against_a_model_of_single_bytes(
    rule: TrimRule, history: list[tuple[int, int, int, bool]], data: st.DataObject
) -> None:
    comparison = Comparison(rule)
    trimmed, unknown = [False] * DISK, [False] * DISK
    for kind, start, end, failed in history:
        comparison.done(changed(kind, start, end, failed=failed))
        for at in range(start, end):
            if kind == Kind.READ:
                continue
            if failed:
                unknown[at] = True
            elif kind == Kind.TRIM:
                trimmed[at] = True
            else:
                trimmed[at] = unknown[at] = False
    offset = data.draw(st.integers(0, DISK - 1))
    length = data.draw(st.integers(1, DISK - offset))
    # bytes of few values in runs, so that old, zero and new all come up
    runs = st.lists(
        st.sampled_from([b"\0" * UNIT, b"o" * UNIT, b"n" * UNIT]), min_size=1, max_size=8
    )
    expected = (b"".join(data.draw(runs)) * DISK)[:length]
    actual = (b"".join(data.draw(runs)) * DISK)[:length]

    def right(first: int, last: int) -> bool:
        """Whether the sector's bytes first..last are right, by the rules."""
        checked = [at for at in range(first, last) if not unknown[at]]
        pairs = {at: (expected[at - offset], actual[at - offset]) for at in checked}
        if any(old != new for at, (old, new) in pairs.items() if not trimmed[at]):
            return False
        if rule == "any":
            return True
        return all(new in (old, 0) for at, (old, new) in pairs.items() if trimmed[at])

    wrong = [
        (max(at, offset), min(at + SECTOR, offset + length))
        for at in range(offset // SECTOR * SECTOR, offset + length, SECTOR)
        if not right(max(at, offset), min(at + SECTOR, offset + length))
    ]
    pieces = found(comparison, expected, actual, offset)
    covered = {at for first, last in pieces for at in range(first, last)}
    assert covered == {at for first, last in wrong for at in range(first, last)}
    undefined = any(trimmed[at] or unknown[at] for at in range(offset, offset + length))
    assert comparison.defined(offset, offset + length) == (not undefined)
