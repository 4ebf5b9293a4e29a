"""Where ops came to, in grains."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.traces import changed
from tracer.mirror.comparison import Comparison
from tracer.mirror.touched import GRAIN, SHORT, Grains
from tracer.op import FAST_ZERO, Kind, Op

PAGE = 1024 * GRAIN


def test_a_byte_touches_its_grain() -> None:
    grains = Grains()
    grains.add(GRAIN + 5, GRAIN + 6)
    assert list(grains.ranges()) == [(GRAIN, 2 * GRAIN)]


def test_nothing_touches_nothing() -> None:
    grains = Grains()
    grains.add(5, 5)
    assert not grains.ranges()


@given(
    st.lists(
        st.tuples(st.integers(0, 4 * PAGE), st.integers(1, 3 * PAGE)),
        max_size=8,
    )
)
def test_exactly_the_grains_that_were_added(places: list[tuple[int, int]]) -> None:
    grains, expected = Grains(), set()
    for start, length in places:
        grains.add(start, start + length)
        expected.update(range(start // GRAIN, (start + length - 1) // GRAIN + 1))
    found = [
        number for start, end in grains.ranges() for number in range(start // GRAIN, end // GRAIN)
    ]
    assert found == sorted(expected)


def test_a_copy_is_independent() -> None:
    comparison = Comparison()
    comparison.done(changed(Kind.WRITE, 0, 1, failed=False))
    twin = comparison.copy()
    comparison.done(changed(Kind.WRITE, GRAIN, GRAIN + 1, failed=False))
    assert list(twin.touched.data.ranges()) == [(0, GRAIN)]
    assert list(comparison.touched.data.ranges()) == [(0, 2 * GRAIN)]


@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.START, Kind.ZERO, Kind.TRIM])
@pytest.mark.parametrize("failed", [False, True])
def test_whatever_may_change_data_touches(kind: Kind, failed: bool) -> None:
    comparison = Comparison()
    comparison.done(changed(kind, 0, GRAIN, failed=failed))
    assert list(comparison.touched.data.ranges()) == [(0, GRAIN)]


def test_what_was_refused_touches_nothing() -> None:
    comparison = Comparison()
    comparison.done(Op(0, int(Kind.ZERO), FAST_ZERO, 0, GRAIN, test_status=errno.ENOTSUP))
    assert not comparison.touched.data.ranges()


@pytest.mark.parametrize("kind", [Kind.ZERO, Kind.TRIM])
def test_a_long_op_without_data_touches_its_ends(kind: Kind) -> None:
    comparison = Comparison()
    comparison.done(changed(kind, GRAIN // 2, GRAIN // 2 + SHORT + 1, failed=False))
    touched = comparison.touched
    assert list(touched.data.ranges()) == [(0, GRAIN), (SHORT, SHORT + GRAIN)]
    assert list(touched.cleared.ranges()) == [(0, SHORT + GRAIN)]
