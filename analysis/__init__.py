"""What a trace says, as tables and pictures.

    import analysis

    t = analysis.open("install.trace")
    t.ops.group_by("kind").len().collect()
    t.writers(sector=2048)

Pictures are in ``analysis.plots``, which loads matplotlib; this module does not.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.frames import Recording

__all__ = ["Recording", "open"]


def open(path: str | os.PathLike[str]) -> "Recording":
    """The recording in a trace file. Reads the header only. Raises TraceError."""
    from analysis.frames import Recording

    return Recording(Path(path))


def __getattr__(name: str) -> Any:
    # polars is loaded when someone asks for it: the command's verbs are modules of this package
    if name == "Recording":
        from analysis.frames import Recording

        return Recording
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
