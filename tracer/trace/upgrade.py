"""Headers of older versions of the format: one step from each version to the next.

The records of version 1 are those of version 2.
"""

from collections.abc import Callable
from typing import Any

from tracer.op import Conflicts

Header = dict[str, Any]


def _to_2(header: Header) -> Header:
    """Version 1 held conflicting ops back, though their times look as if in flight together."""
    return {**header, "version": 2, "conflicts": Conflicts.HELD.value, "profile": {}}


UPGRADES: dict[int, Callable[[Header], Header]] = {1: _to_2}
"""By version, the step to the next one."""


def upgraded(header: Header) -> Header:
    """Return a trace's header in the newest version."""
    while (step := UPGRADES.get(header["version"])) is not None:
        header = step(header)
    return header
