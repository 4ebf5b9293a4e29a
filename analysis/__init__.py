"""Explain a trace or a verdict: as tables, in words, as pictures and pages.

    import analysis

    t = analysis.open("install.trace")
    t.ops.group_by("kind").len().collect()
    t.writers(sector=2048)
    t.versions(range(2048, 2056))               # what the sectors held, when, and who read it
    t.expected(range(2048, 2056), at=5)         # the bytes they should have held after op 5
    analysis.damage("verdict.json")             # the output of trace replay --json

Pictures are in ``analysis.plots``, which loads matplotlib. This module does not load it.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from analysis.frames.frames import Frames
    from tracer.verdict import Recording, Verdict

__all__ = ["damage", "open"]

# Only the functions that need polars load it, since other modules of this package do not.


def open(path: str | os.PathLike[str]) -> "Frames":
    """Open a trace as frames. Reads the header only.

    Raises UsageError if it is not a path, TraceError if the file cannot be opened or is not a
    trace.
    """
    from analysis.frames.asked import checked_path
    from analysis.frames.frames import Frames

    return Frames(checked_path(path))


def damage(
    verdict: "Verdict | Recording | Mapping[str, Any] | str | os.PathLike[str]",
) -> "pl.DataFrame":
    """Return the damaged ranges of a verdict as a frame, sorted by sector.

    ``verdict`` is the object, its JSON as a dict, or the path of a file with that JSON.
    ``analysis.story.damage`` describes the columns. Raises UsageError if it is not a verdict.
    """
    from analysis.story.damage import damage

    return damage(verdict)


def __dir__() -> list[str]:
    return __all__
