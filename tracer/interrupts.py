"""SIGINT, SIGTERM and SIGHUP as an exception, so that whatever is under way is tidied up.

The command ``trace`` installs the handlers. A program that imports blkbox keeps its own.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that ask a program to end."""


class Interrupted(BaseException):
    """A signal asked us to end. As with KeyboardInterrupt, no ``except Exception`` stops it."""

    def __init__(self, number: int) -> None:
        self.name = signal.Signals(number).name
        super().__init__(f"interrupted by {self.name}")
        self.exit_code = 128 + number
        """The exit code, as a shell gives it."""


class _Gate:
    """Whether signals must wait, and the one that waits. One for the process: only the main thread
    gets signals."""

    depth = 0
    waiting: int | None = None


def handled() -> list[int]:
    """Return the signals to handle.

    An ignored SIGHUP stays ignored: nohup(1) asks for that. A script's background jobs ignore
    SIGINT too, but ``kill -INT`` is how a script ends a recording.
    """
    return [
        number
        for number in ENDING
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    ]


def install() -> None:
    """Raise Interrupted at the first signal. Ignore all later ones: they must not stop the
    tidying up."""
    for number in handled():
        signal.signal(number, _caught)


def ignore() -> None:
    """Ignore the signals from now on, even while Python ends: the exit code is settled."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def held() -> Iterator[None]:
    """Within the block a signal waits. For steps that must not be separated, such as to start a
    process and to note its id."""
    _Gate.depth += 1
    try:
        yield
    finally:
        _Gate.depth -= 1
        if not _Gate.depth and _Gate.waiting is not None:
            number, _Gate.waiting = _Gate.waiting, None
            raise Interrupted(number)


def _caught(number: int, _: FrameType | None) -> None:
    for each in handled():
        # not SIG_IGN: Python complains if it ignores a signal that has just arrived
        signal.signal(each, _ignored)
    if _Gate.depth:
        _Gate.waiting = number
    else:
        raise Interrupted(number)


def _ignored(_number: int, _: FrameType | None) -> None:
    pass
