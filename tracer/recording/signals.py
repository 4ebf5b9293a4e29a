"""SIGINT, SIGTERM and SIGHUP during a recording: they wake the loop and are passed on to the
guest."""

import os
import signal
from collections.abc import Callable
from types import FrameType

from tracer.disk.loop import Loop

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """A context manager: within its block, SIGINT, SIGTERM and SIGHUP wake the loop.

    A SIGINT from the terminal goes to the whole foreground process group. The guest has it already,
    so it is not passed on.
    """

    def __init__(self, loop: Loop) -> None:
        self.received: int | None = None
        """The number of the last signal, or None."""
        self._forward: Callable[[int], None] | None = None
        self._early: list[int] = []
        self._loop = loop
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Signals":
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._loop.add(self._read, lambda _: self._drain())
        for number in FORWARDED:
            self._before[number] = signal.signal(number, self._caught)
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]
        self._loop.remove(self._read)
        os.close(self._read)
        os.close(self._write)

    def forward_to(self, guest: Callable[[int], None]) -> None:
        """Pass signals on to the guest, including the signals that came before it was started."""
        self._forward = guest
        early, self._early = self._early, []
        for number in early:
            guest(number)

    def _drain(self) -> None:
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            return

    def _caught(self, number: int, _: FrameType | None) -> None:
        self.received = number
        if self._forward is None:
            self._early.append(number)
        elif not (number == signal.SIGINT and _in_foreground()):
            self._forward(number)


def _in_foreground() -> bool:
    """Whether the terminal's interrupt key sends SIGINT to our process group."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
