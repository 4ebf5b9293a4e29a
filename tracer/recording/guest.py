"""The guest's command, after ``--`` on the command line: start it, signal it, wait for it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

from tracer.disk.loop import Loop
from tracer.errors import UsageError

GRACE = 1.0
"""Seconds in which a guest may end by itself after it has lost its disk."""

KILL_AFTER = 10.0
"""Seconds in which a guest must end after SIGTERM, before SIGKILL."""


class GuestCommand:
    """A running guest command.

    ``{nbd}`` in its arguments is replaced by ``uri``, which it also finds as $NBD_URI.
    ``environment`` is added to our environment. ``stdout`` is a descriptor for its output; None:
    our own stdout. Raises UsageError if the command cannot be run.
    """

    def __init__(
        self,
        loop: Loop,
        argv: Sequence[str],
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
        """The exit status, negative for a signal; None while it runs."""
        self._loop = loop
        self._pidfd = os.pidfd_open(self._process.pid)
        loop.add(self._pidfd, self._ended)

    def signal(self, number: int) -> None:
        """Send a signal to the command, unless it has ended. A command that is stopped goes on, to
        take the signal."""
        if self.exited is None:
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)

    def end(self, turn: Callable[[float], None]) -> None:
        """Wait for the command to end. After GRACE seconds send SIGTERM, after KILL_AFTER more
        SIGKILL. ``turn(seconds)`` runs the loop meanwhile."""
        for patience, number in ((GRACE, signal.SIGTERM), (KILL_AFTER, signal.SIGKILL)):
            deadline = time.monotonic() + patience
            while self.exited is None and time.monotonic() < deadline:
                turn(0.1)
            self.signal(number)
        self._ended(0)

    def kill(self) -> None:
        """Kill the command if it still runs."""
        self.signal(signal.SIGKILL)
        self._ended(0)

    def _ended(self, _: int) -> None:
        if self.exited is None:
            self.exited = self._process.wait()
            self._loop.remove(self._pidfd)
            os.close(self._pidfd)
