"""SIGINT, SIGTERM and SIGHUP during a recording: they wake the loop and are passed on to the
guest, or interrupt what comes after the guest."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from tracer import interrupts
from tracer.disk.loop import Loop

BURST = 0.5
"""Seconds. Signals that follow each other more closely are one request: timeout(1) signals its
child and then their group, and a terminal that closes signals the shell, which signals its jobs."""


class Signals:
    """A context manager: within its block, SIGINT, SIGTERM and SIGHUP wake the loop.

    A SIGINT from the terminal goes to the whole foreground process group. The guest has it already,
    so it is not passed on.
    """

    def __init__(self, loop: Loop) -> None:
        self.received: int | None = None
        """The number of the last signal since ``forget``, or None."""
        self.count = 0
        """How many signals came, with each burst as one."""
        self._burst = -BURST  # when the last burst of signals began, in seconds
        self._raises = False
        self._forward: Callable[[int], None] | None = None
        self._early: list[int] = []
        self._loop = loop
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Signals":
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._loop.add(self._read, lambda _: self._drain())
        for number in interrupts.handled():
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

    def forget(self) -> None:
        """Forget the signals so far: they have had their effect."""
        self.received = None

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Within the block a signal raises Interrupted, at once if one is there already."""
        try:
            self._raises = True
            if self.received is not None:
                raise interrupts.Interrupted(self.received)
            yield
        finally:
            self._raises = False

    def _drain(self) -> None:
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            return

    def _caught(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        repeated = now - self._burst < BURST
        if not repeated:
            self._burst = now
            self.count += 1
        if not repeated or self.received is not None:
            self.received = number
        if self._forward is None:
            self._early.append(number)
        elif not (number == signal.SIGINT and _in_foreground()):
            self._forward(number)
        if self._raises and not repeated:
            raise interrupts.Interrupted(number)


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
