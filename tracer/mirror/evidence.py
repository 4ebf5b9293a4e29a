"""What is wrong with a disk: which bytes, and what they should have been."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Evidence:
    """A damaged range: what it should hold and what it holds, from byte ``offset`` on, equally long."""

    offset: int
    expected: bytes
    actual: bytes

    @property
    def end(self) -> int:
        """The byte after the last one."""
        return self.offset + len(self.expected)
