"""Progress on stderr, for the command on a terminal. Silence elsewhere, and for programs that import
us."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

REDRAW = 0.2
"""Seconds between redraws: often enough to look alive, too seldom to cost anything."""


_SHOWN: ContextVar[bool] = ContextVar("shown", default=False)


@contextmanager
def shown() -> Iterator[None]:
    """Show progress within the block, if stderr is a terminal."""
    token = _SHOWN.set(sys.stderr.isatty())
    try:
        yield
    finally:
        _SHOWN.reset(token)


@contextmanager
def bar(what: str, total: int, unit: str = "bytes") -> Iterator[Callable[[int], None]]:
    """A progress bar over ``total`` bytes or ops. Gives a function that takes how many more are
    done."""
    if not _SHOWN.get() or total <= 0:
        yield lambda more: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    count = DownloadColumn(binary_units=True) if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, refresh_per_second=5) as progress:
        task = progress.add_task(what, total=total)
        pending, drawn = 0, time.monotonic()

        def advance(more: int) -> None:
            nonlocal pending, drawn
            pending += more
            now = time.monotonic()
            if now - drawn >= REDRAW:
                progress.advance(task, pending)
                pending, drawn = 0, now

        yield advance


class LiveLine:
    """One line on a terminal that is written over and over."""

    def __init__(self) -> None:
        self._on = _SHOWN.get()
        self._drawn = 0.0

    def due(self) -> bool:
        """Whether it is time to show something new."""
        return self._on and time.monotonic() - self._drawn >= REDRAW

    def show(self, text: str) -> None:
        """Show ``text`` in place of what is there."""
        self._drawn = time.monotonic()
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Leave an empty line."""
        if self._on and self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
