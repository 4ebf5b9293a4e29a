"""Processes that are not ours: their children, and whether they have ended."""

from pathlib import Path


def is_gone(pid: int) -> bool:
    """Whether a process has ended (perhaps nobody has reaped it yet)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def children(pid: int) -> list[int]:
    """The processes that a process started and has not reaped."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
