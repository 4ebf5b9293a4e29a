"""Digests, and the bytes that stand in for a payload that was not kept."""

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from tracer.digest import digest, is_zero, stand_in
from tracer.op import ZERO_DIGEST

STEP = 1 << 16


@pytest.mark.parametrize(
    "length", [0, 1, 511, 512, STEP - 1, STEP, STEP + 1, 3 * STEP, 3 * STEP + 5]
)
def test_zeroes_of_any_length_are_zero(length: int) -> None:
    assert is_zero(bytes(length))
    assert is_zero(bytearray(length))
    assert digest(bytes(length)) == ZERO_DIGEST


@pytest.mark.parametrize("length", [1, 2, 512, STEP, STEP + 1, 3 * STEP])
def test_one_bit_anywhere_is_seen(length: int) -> None:
    for at in {0, length // 2, length - 1}:
        data = bytearray(length)
        data[at] = 1
        assert not is_zero(data), at
        assert digest(data) != ZERO_DIGEST


@given(st.binary(min_size=1, max_size=2000))
def test_a_digest_is_blake3_cut_to_128_bits(data: bytes) -> None:
    if any(data):
        assert digest(data) == blake3(data).digest()[:16]


@given(st.binary(min_size=16, max_size=16), st.integers(1, 5000))
def test_a_stand_in_depends_on_digest_and_length_alone(seed: bytes, length: int) -> None:
    assert len(stand_in(seed, length)) == length
    assert stand_in(seed, length) == stand_in(bytes(seed), length)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_different_digests_have_different_stand_ins(one: bytes, other: bytes) -> None:
    assert (stand_in(one, 64) == stand_in(other, 64)) == (one == other)


def test_the_stand_in_of_zeroes_is_zeroes() -> None:
    assert stand_in(ZERO_DIGEST, 1000) == bytes(1000)
    assert not is_zero(bytes(stand_in(digest(b"x"), 1000)))
