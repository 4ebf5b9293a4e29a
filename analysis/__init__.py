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

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.damaged import damage
    from analysis.frames import Recording

__all__ = ["Recording", "damage", "open"]


def open(path: str | os.PathLike[str]) -> "Recording":
    """The recording in a trace file. Reads the header only. Raises TraceError."""
    from analysis.frames import Recording

    return Recording(Path(path))


_LAZY = {"Recording": "analysis.frames", "damage": "analysis.damaged"}


def __getattr__(name: str) -> Any:
    # polars is loaded when someone asks for it: the command's verbs are modules of this package
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
