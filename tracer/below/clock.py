"""The clock that guest ops and lower ops share: how large the log was at each guest op.

A size is taken before an op is sent, and again once it is known to be done. So what an op caused
lies behind its first size, and what it waited for lies before its second.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from tracer.closing import Closing


@dataclass(frozen=True, slots=True)
class Moment:
    """A guest op was sent (``error`` is None) or was done with ``error``, an errno value.

    ``time`` is in ns since the clock was made. ``log`` and ``image`` are the sizes of the log and
    of the image file, in bytes.
    """

    seq: int
    time: int
    log: int
    image: int
    error: int | None = None


class Clock(Closing):
    """Notes the moments of a run. The log must exist. Raises OSError."""

    def __init__(self, log: Path, image: Path) -> None:
        self.moments: list[Moment] = []
        self.started = time.monotonic_ns()
        """The system's monotonic clock when this one began, in ns."""
        self._image = image
        self._log = os.open(log, os.O_RDONLY | os.O_CLOEXEC)

    def submitted(self, seq: int) -> None:
        """A guest op is about to be sent."""
        self._note(seq, None)

    def completed(self, seq: int, error: int) -> None:
        """A guest op is done."""
        self._note(seq, error)

    def take(self) -> list[Moment]:
        """Return the moments that were noted since the last time."""
        taken, self.moments = self.moments, []
        return taken

    def close(self) -> None:
        """Close the log. A second call does nothing."""
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def _note(self, seq: int, error: int | None) -> None:
        log, image = os.fstat(self._log).st_size, os.stat(self._image).st_size
        now = time.monotonic_ns() - self.started
        self.moments.append(Moment(seq, now, log, image, error))
