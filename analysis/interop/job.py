"""What an export is to do."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Job:
    """Read the trace at ``trace``, write the file ``new``, which will be renamed to ``output``; tell
    ``progress`` of records that are done."""

    trace: Path
    new: Path
    output: Path
    progress: Callable[[int], None]
