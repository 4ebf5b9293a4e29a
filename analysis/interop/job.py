"""The parameters of an export."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Job:
    """What an export reads and writes."""

    trace: Path
    new: Path
    """The file to write. It will be renamed to ``output``."""
    output: Path
    progress: Callable[[int], None]
    """Called with the number of records done."""
