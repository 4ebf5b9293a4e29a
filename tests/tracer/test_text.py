"""Sizes and tables as people read and write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.errors import UsageError
from tracer.text import parse_size, printable, printable_lines, seconds, size, table


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("512", 512),
        ("512B", 512),
        ("64K", 65536),
        ("64k", 65536),
        ("64KiB", 65536),
        ("64 KB", 65536),
        ("16G", 16 << 30),
        ("1.5GiB", 3 << 29),
        ("0.5M", 1 << 19),
        ("1T", 1 << 40),
        ("2p", 2 << 50),
        ("1E", 1 << 60),
        (" 1M ", 1 << 20),
    ],
)
def test_sizes_that_are_understood(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "K", "-1", "1e3", "1X", "1KK", "0x10", "1.", ".5K", "1,5G"])
def test_sizes_that_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        parse_size(text)


@given(st.integers(0, 1 << 70))
def test_plain_numbers_are_exact(count: int) -> None:
    assert parse_size(str(count)) == count


@given(st.integers(0, 1 << 20), st.sampled_from("KMGTPE"))
def test_whole_units_are_exact(count: int, unit: str) -> None:
    assert parse_size(f"{count}{unit}") == count << (10 * (1 + "KMGTPE".index(unit)))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (4096, "4.0 KiB"),
        ((1 << 30) - 1, "1.0 GiB"),
        (3 << 29, "1.5 GiB"),
        (5 << 40, "5.0 TiB"),
        (3 << 49, "1.5 PiB"),
        (4 << 60, "4.0 EiB"),
    ],
)
def test_sizes_as_they_are_shown(count: int, text: str) -> None:
    assert size(count) == text


def test_seconds() -> None:
    assert seconds(12_345_000_000) == "12.345 s"


def test_a_table_lines_up() -> None:
    rows = [("op", "count"), ("read", "7"), ("write", "1,000")]
    assert table(rows, right=frozenset({1})) == "op     count\nread       7\nwrite  1,000"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, \u00e4\u6f22", "plain text, \u00e4\u6f22"),
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("a\r\nb\tc\0", r"a\r\nb\tc\x00"),
        ("\x9b31m\x85\x7f", r"\x9b31m\x85\x7f"),
        ("\u202egnp.exe\u2066\u200f", r"\u202egnp.exe\u2066\u200f"),
        ("\u2028\u200b\ufeff\U000e0001", r"\u2028\u200b\ufeff\U000e0001"),
        ("\udcff", r"\udcff"),
    ],
)
def test_text_from_outside_has_no_control_characters(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_what_is_printable_stays(text: str) -> None:
    assert printable(text).isprintable()
    assert (printable(text) == text) == text.isprintable()
    assert printable_lines(text).split("\n") == [printable(line, "\t") for line in text.split("\n")]
