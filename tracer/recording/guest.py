"""The guest's command: started with the disk's address, signalled, waited for."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

from tracer.disk.loop import Loop
from tracer.errors import UsageError

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

    def kill(self) -> None:
        """End it at once, if it still runs."""
        self.signal(signal.SIGKILL)
        self._ended(0)

    def _ended(self, _: int) -> None:
        if self.exited is None:
            self.exited = self._process.wait()
            self._loop.remove(self._pidfd)
            os.close(self._pidfd)
