"""A FUSE file system under a driver: tracer/below/fuse_file.py, started and unmounted.

Any driver that takes a file can be looked below this way. It needs the extra ``blkbox[below]``,
libfuse3 and /dev/fuse.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from tracer.closing import Closing
from tracer.disk.private import PrivateFolder, Use
from tracer.driver.command import signal_group
from tracer.driver.output import Output
from tracer.errors import DriverError
from tracer.interrupts import held

GUARD = 'trap "" HUP INT TERM; cat >/dev/null; fusermount3 -q -u -z -- "$1/file"; kill -s KILL 0'
"""A shell command that unmounts the file system and ends its program if we die. The folder is left
to the next run (``tracer.disk.private.sweep``)."""

TIMEOUT = 15.0
"""Seconds in which the file system must be there."""

CALM = "calm"
"""The name that ends all failures if somebody looks for it."""

FUSE = Path("/dev/fuse")


def missing() -> str | None:
    """Return what FUSE needs here and does not have, in words; None if all is there."""
    if find_spec("mfusepy") is None:
        return "mfusepy is missing: pip install 'blkbox[below]'"
    if shutil.which("fusermount3") is None:
        return "fusermount3 is missing: install fuse3"
    if not os.access(FUSE, os.R_OK | os.W_OK):
        return f"{FUSE} cannot be used"
    return None


class Mounted(Closing):
    """A file seen through the file system. Raises DriverError if it cannot be mounted.

    ``path`` is the file to use. What is done to it is in ``log``. ``fails`` is the number of a
    lower op and the errno with which it fails.
    """

    def __init__(self, file: Path, log: Path, fails: tuple[int, int] | None = None) -> None:
        why = missing()
        if why is not None:
            raise DriverError(f"no FUSE file: {why}")
        self._folder = PrivateFolder(Use.DRIVER)
        self._mount = self._folder.path / "file"
        self._mount.mkdir()
        self.path = self._mount / file.name
        self._output = Output()
        root = Path(__file__).resolve().parents[2]
        try:
            with held():
                self._guard = subprocess.Popen(
                    ["/bin/sh", "-c", GUARD, "guard", str(self._folder.path)],
                    stdin=subprocess.PIPE, process_group=0,
                )  # fmt: skip
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tracer.below.fuse_file", str(file.absolute()),
                     str(log.absolute()), str(self._mount), *map(str, fails or ())],
                    stdin=subprocess.DEVNULL, stdout=self._output.writer,
                    stderr=self._output.writer, process_group=self._guard.pid, cwd=root,
                )  # fmt: skip
                self._output.started()
            self._wait()
        except BaseException:
            self.close()
            raise

    def calm(self) -> None:
        """End all failures."""
        (self._mount / CALM).exists()

    def close(self) -> None:
        """Unmount, and wait for the program. A second call does nothing."""
        if self._folder is None:
            return
        if self._mount.is_mount():
            command = ["fusermount3", "-q", "-u", "-z", "--", str(self._mount)]
            subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
        process, guard = getattr(self, "_process", None), getattr(self, "_guard", None)
        if process is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(TIMEOUT)
        if guard is not None:
            signal_group(guard.pid, signal.SIGKILL)
            guard.wait()
            guard.stdin.close()
        if process is not None:
            process.wait()
        self._output.close()
        self._folder.close()

    def _wait(self) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not self._mount.is_mount():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise DriverError("the FUSE file was not mounted", self._output.text())
            time.sleep(0.005)
