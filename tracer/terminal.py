"""A status row at the bottom of the terminal, while something else writes to it.

A guest shares our terminal. To pass its output through us would take the terminal away from it. So
the screen scrolls above the last row (DECSTBM, as apt does below dpkg's output): what a guest
prints goes above the row, and no line of the guest is damaged.
"""

import os
import sys
import termios
import time
from collections import deque

from tracer.progress import REDRAW, visible
from tracer.text import printable

FIRST = 1.0
"""Seconds before the row is first shown: what is done sooner needs no progress."""

LEAST_ROWS, LEAST_COLUMNS = 4, 20
"""A smaller terminal has no row to spare."""

WINDOW = 5.0
"""Seconds over which rates are taken: long enough to read, short enough to show a stall."""


class StatusRow:
    """The last row of the terminal. Nothing is shown before FIRST seconds, on a terminal that is
    not ours (we run in the background), or while a program reads single keys: that program may use
    the whole screen."""

    def __init__(self) -> None:
        self._on = visible() and os.environ.get("TERM", "dumb") != "dumb"
        self._drawn = time.monotonic() + FIRST - REDRAW
        self._rows = 0  # the rows of the terminal when the row was reserved; 0: it is not

    def due(self) -> bool:
        """Whether the row is to be drawn again."""
        return self._on and time.monotonic() - self._drawn >= REDRAW

    def show(self, text: str) -> None:
        """Show ``text`` in the row."""
        self._drawn = time.monotonic()
        try:
            columns, rows = os.get_terminal_size(sys.stderr.fileno())
            ours = _is_ours(sys.stderr.fileno())
        except (OSError, termios.error):  # the terminal has gone
            self._on = False
            return
        if not ours or rows < LEAST_ROWS or columns < LEAST_COLUMNS:
            self.clear()
            return
        drawn = ""
        if rows != self._rows:
            drawn += _released(self._rows) if self._rows else ""
            drawn += _reserved(rows)
            self._rows = rows
        # always with the region: a program may have reset it
        drawn += (
            f"\x1b7{_region(rows)}\x1b[{rows};1H\x1b[0m\x1b[K{printable(text)[: columns - 1]}\x1b8"
        )
        _write(drawn)

    def clear(self) -> None:
        """Give the row back."""
        if self._rows:
            _write(_released(self._rows))
            self._rows = 0


class Rates:
    """Rates of counters over the last WINDOW seconds."""

    def __init__(self, *counts: int) -> None:
        self._seen = deque([(time.monotonic(), counts)])

    def now(self, *counts: int) -> list[float]:
        """Return by how much each counter has grown per second."""
        now = time.monotonic()
        while len(self._seen) > 1 and self._seen[1][0] <= now - WINDOW:
            self._seen.popleft()
        since, before = self._seen[0]
        if now - self._seen[-1][0] >= REDRAW:
            self._seen.append((now, counts))
        took = max(now - since, 1e-9)
        return [(count - old) / took for count, old in zip(counts, before, strict=True)]


def _is_ours(terminal: int) -> bool:
    """Whether we run in the foreground and the terminal reads whole lines. Raises OSError and
    termios.error."""
    if not termios.tcgetattr(terminal)[3] & termios.ICANON:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # not the terminal that controls us: then it has no background
        return True


def _region(rows: int) -> str:
    return f"\x1b[1;{rows - 1}r"


def _reserved(rows: int) -> str:
    """Return what frees the last row. If the cursor is in it, the screen moves up by a row."""
    return f"\x1bD\x1bM\x1b7{_region(rows)}\x1b8"


def _released(rows: int) -> str:
    """Return what erases the last row and lets the whole screen scroll."""
    return f"\x1b7\x1b[{rows};1H\x1b[0m\x1b[K\x1b[r\x1b8"


def _write(text: str) -> None:
    # in one piece, so that another program's output cannot come in between
    sys.stderr.flush()
    try:
        os.write(sys.stderr.fileno(), text.encode(errors="replace"))
    except OSError:
        return  # progress that nobody sees
