"""Find the fewest lower ops that must be missing for a promise to be broken."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from replay.below.states.points import Crash

T = TypeVar("T")

MOST = 60
"""States that are judged to shrink one."""


def shrunk(crash: Crash, seen: T, same: Callable[[Crash], T | None]) -> tuple[Crash, T, bool]:
    """Return a state at the same point with fewer missing lower ops, what it showed, and whether
    none can be put back.

    ``same`` judges a state: it returns what that showed if it breaks the same promise, or None.
    """
    left = MOST

    def shows(other: Crash) -> bool:
        nonlocal left, crash, seen
        left -= 1
        again = same(other)
        if again is None:
            return False
        crash, seen = other, again
        return True

    if crash == Crash(crash.point) or shows(Crash(crash.point)):
        return crash, seen, True
    if crash.torn is not None:
        return crash, seen, True
    size = max(1, len(crash.missing) // 2)
    while left > 0:
        missing = sorted(crash.missing)
        chunks = [missing[at : at + size] for at in range(0, len(missing), size)]
        for chunk in chunks:  # the chunks of a smaller set are not tried twice in a round
            fewer = crash.missing - set(chunk)
            if left > 0 and fewer and fewer != crash.missing:
                shows(replace(crash, missing=fewer))
        if size == 1 and len(crash.missing) == len(missing):
            return crash, seen, True
        size = max(1, min(size // 2, len(crash.missing) // 2)) if size > 1 else 1
    return crash, seen, False
