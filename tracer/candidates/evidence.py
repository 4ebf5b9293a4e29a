"""Evidence of damage: the wrong bytes of a range, and the right ones."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Evidence:
    """The expected and actual bytes of a damaged range, from byte ``offset``, of equal length."""

    offset: int
    expected: bytes
    actual: bytes

    @property
    def end(self) -> int:
        """The byte after the range."""
        return self.offset + len(self.expected)
