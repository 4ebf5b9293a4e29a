"""The rows of two hex dumps side by side. The caller decides which rows it shows, and how."""

from collections.abc import Iterator
from dataclasses import dataclass

WIDTH = 16
"""Bytes per row."""


@dataclass(frozen=True, slots=True)
class Row:
    """Up to WIDTH expected and actual bytes, from byte ``offset`` of the disk on."""

    offset: int
    expected: bytes
    actual: bytes
    repeats: bool
    """Whether both sides are the same as in the row above."""

    @property
    def equal(self) -> bool:
        """Whether the two sides are equal."""
        return self.expected == self.actual


def rows(offset: int, expected: bytes, actual: bytes) -> Iterator[Row]:
    """Yield the rows of two byte strings of the same length that begin at byte ``offset``."""
    above = None
    for at in range(0, len(expected), WIDTH):
        pair = expected[at : at + WIDTH], actual[at : at + WIDTH]
        yield Row(offset + at, *pair, repeats=pair == above)
        above = pair


def letters(data: bytes) -> list[str]:
    """Return each byte as a character: a dot for a byte that is not printable ASCII."""
    return [chr(byte) if 32 <= byte < 127 else "." for byte in data]
