"""What a trace says, as tables and pictures.

    import analysis

    t = analysis.open("install.trace")
    t.ops.group_by("kind").len().collect()
    t.writers(sector=2048)

Pictures are in ``analysis.plots``, which loads matplotlib; this module does not.
"""

import os
from pathlib import Path

from analysis.frames import Recording

__all__ = ["Recording", "open"]


def open(path: str | os.PathLike[str]) -> Recording:
    """The recording in a trace file. Reads the header only. Raises TraceError."""
    return Recording(Path(path))
