"""The rows of two hex dumps side by side. Who shows them decides what to leave out and what to mark."""

from collections.abc import Iterator
from dataclasses import dataclass

WIDTH = 16
"""Bytes in a row."""


@dataclass(frozen=True, slots=True)
class Row:
    """Up to WIDTH bytes from byte ``offset`` of the disk on: what is expected there, and what is."""

    offset: int
    expected: bytes
    actual: bytes
    repeats: bool
    """Whether both are as in the row above."""

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return self.expected == self.actual


def rows(offset: int, expected: bytes, actual: bytes) -> Iterator[Row]:
    """The rows of two equally long pieces that begin at byte ``offset``."""
    above = None
    for at in range(0, len(expected), WIDTH):
        pair = expected[at : at + WIDTH], actual[at : at + WIDTH]
        yield Row(offset + at, *pair, repeats=pair == above)
        above = pair


def letters(data: bytes) -> list[str]:
    """Each byte as a character, those that are not printable ASCII as a dot."""
    return [chr(byte) if 32 <= byte < 127 else "." for byte in data]
