"""What a trace says, as tables and pictures.

    import analysis

    t = analysis.open("install.trace")
    t.ops.group_by("kind").len().collect()
    t.writers(sector=2048)
    t.versions(range(2048, 2056))               # sectors: what they held, when, who read it
    t.expected(range(2048, 2056), at=5)         # the bytes that they should have held after op 5
    analysis.damage("verdict.json")             # of trace replay --json

Pictures are in ``analysis.plots``, which loads matplotlib; this module does not.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from analysis.frames.frames import Frames
    from tracer.verdict import Recording, Verdict

__all__ = ["damage", "open"]

# polars is loaded by the functions that need it: other modules of this package do not


def open(path: str | os.PathLike[str]) -> "Frames":
    """The frames of a trace file. Reads the header only. Raises TraceError."""
    from analysis.frames.frames import Frames

    return Frames(Path(path))


def damage(
    verdict: "Verdict | Recording | Mapping[str, Any] | str | os.PathLike[str]",
) -> "pl.DataFrame":
    """The damaged ranges of a verdict, by sector; ``analysis.story.damage`` has the details. Raises
    UsageError."""
    from analysis.story.damage import damage

    return damage(verdict)


def __dir__() -> list[str]:
    return __all__
