"""What a command says on stderr while it runs: steps, details, and progress on a terminal.

Progress needs a terminal. A program that imports blkbox is shown nothing.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum
from typing import TYPE_CHECKING

from tracer.closing import Closing
from tracer.text import printable, printable_lines

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

REDRAW = 0.2
"""Seconds between redraws: short enough to look alive, long enough to cost nothing."""

REDRAW_BOARD = 0.5
"""Seconds between redraws of a text of many lines."""

SPEED_OVER = 10.0
"""Seconds over which the speed is taken that gives the time left."""

Say = Callable[[str], None]
"""A function that gets what a job has to say while it works, a line at a time."""


def silent(_: str) -> None:
    """Say nothing."""


_SHOWN: ContextVar[bool] = ContextVar("shown", default=False)


class Talk(IntEnum):
    """How much a command says while it runs."""

    ERRORS = 0
    STEPS = 1
    ALL = 2


_TALK: ContextVar[Talk] = ContextVar("talk", default=Talk.STEPS)


@contextmanager
def talking(much: Talk) -> Iterator[None]:
    """Say so much within the block."""
    token = _TALK.set(much)
    try:
        yield
    finally:
        _TALK.reset(token)


def tell(text: str) -> None:
    """Show lines on stderr, without control characters. All that we write there comes this way."""
    print(printable_lines(text), file=sys.stderr)


def step(text: str) -> None:
    """Show a step of the work, unless only errors are wanted."""
    if _TALK.get() >= Talk.STEPS:
        tell(f"trace: {text}")


def detail(text: str) -> None:
    """Show a detail, if all details are wanted: one line, without control characters."""
    if _TALK.get() >= Talk.ALL:
        tell(f"trace: {printable(text)}")


@contextmanager
def shown() -> Iterator[None]:
    """Show progress within the block, if stderr is a terminal."""
    token = _SHOWN.set(sys.stderr.isatty())
    try:
        yield
    finally:
        _SHOWN.reset(token)


def visible() -> bool:
    """Whether progress is shown."""
    return _SHOWN.get() and _TALK.get() >= Talk.STEPS


@contextmanager
def bar(what: str, total: int, unit: str = "bytes") -> Iterator[Callable[[int], None]]:
    """Show a progress bar over ``total`` bytes or ops.

    Yields a function. Call it with the number of bytes or ops done since the last call.
    """
    if not visible() or total <= 0:
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
    with Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=5,
        speed_estimate_period=SPEED_OVER,
    ) as progress:
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


@contextmanager
def line(what: str) -> Iterator[Callable[[str], None]]:
    """Show a line that changes, for work of which no one knows how long it is.

    Yields a function. Call it with what there is to say, as often as you like.
    """
    if not visible():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.status import Status

    with Status(f"{what} ...", console=Console(stderr=True), refresh_per_second=5) as status:
        drawn = 0.0

        def show(text: str) -> None:
            nonlocal drawn
            now = time.monotonic()
            if now - drawn >= REDRAW:
                status.update(f"{what}: {printable(text)}")
                drawn = now

        yield show


class Board(Closing):
    """A text on the terminal that is drawn again and again, with lines that scroll above it.

    Without a terminal there are only the lines.
    """

    def __init__(self) -> None:
        self._live: Live | None = _live() if visible() else None
        self._drawn = 0.0

    def say(self, text: str) -> None:
        """Show a line, above the text."""
        if self._live is not None:
            self._live.console.print(f"trace: {printable(text)}", markup=False, highlight=False)
        else:
            step(text)

    def draw(self, text: "Callable[[], Text]") -> None:
        """Draw the text again, if it is time."""
        now = time.monotonic()
        if self._live is not None and now - self._drawn >= REDRAW_BOARD:
            self._drawn = now
            self._live.update(text(), refresh=True)

    def close(self) -> None:
        """Remove the text."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def _live() -> "Live":
    from rich.console import Console
    from rich.live import Live

    live = Live(console=Console(stderr=True), transient=True, auto_refresh=False)
    live.start()
    return live
