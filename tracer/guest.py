"""The guest's command: started with the disk's address, signalled, waited for."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from types import FrameType

from tracer.errors import UsageError
from tracer.loop import Loop

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

GRACE = 1.0
"""Seconds that a guest whose disk was taken away has to notice and end by itself."""

KILL_AFTER = 10.0
"""Seconds that it has to end after SIGTERM."""


class GuestCommand:
    """A running guest command. ``exited`` is its exit status once it has ended; ``environment`` is added
    to ours; ``stdout`` is a descriptor for what it prints, if that may not go where our output goes."""

    def __init__(
        self,
        loop: Loop,
        argv: list[str],
        uri: str,
        environment: dict[str, str],
        stdout: int | None = None,
    ) -> None:
        argv = [argument.replace("{nbd}", uri) for argument in argv]
        try:
            variables = {**os.environ, **environment, "NBD_URI": uri}
            self._process = subprocess.Popen(argv, env=variables, stdout=stdout)
        except OSError as error:
            raise UsageError(f"cannot run {argv[0]}: {error.strerror}") from error
        self.exited: int | None = None
        self._loop = loop
        self._pidfd = os.pidfd_open(self._process.pid)
        loop.add(self._pidfd, self._ended)

    def signal(self, number: int) -> None:
        """Pass a signal on."""
        if self.exited is None:
            self._process.send_signal(number)

    def end(self, turn: Callable[[float], None]) -> None:
        """Wait for it to end: SIGTERM if it does not, then SIGKILL. ``turn`` runs the loop meanwhile."""
        for patience, number in ((GRACE, signal.SIGTERM), (KILL_AFTER, signal.SIGKILL)):
            deadline = time.monotonic() + patience
            while self.exited is None and time.monotonic() < deadline:
                turn(0.1)
            self.signal(number)
        self._ended(0)

    def _ended(self, _: int) -> None:
        if self.exited is None:
            self.exited = self._process.wait()
            self._loop.remove(self._pidfd)
            os.close(self._pidfd)


class Signals:
    """Turns SIGINT, SIGTERM and SIGHUP into events of the loop while it is entered.

    ``received`` is the last signal's number. A signal that a terminal sends to the whole foreground
    process group has reached the guest already and is not passed on to it.
    """

    def __init__(self, loop: Loop) -> None:
        self.received: int | None = None
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
        """Pass signals on to the guest, starting with those that came before it was there."""
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
    """Whether a terminal's interrupt key signals this process group."""
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
