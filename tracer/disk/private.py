"""Private folders: for sockets, for a replay's images, for a picture on its way into a report.

Whoever makes one holds a lock on it (flock(2)) as long as it lives. A process that SIGKILL ends
removes nothing; the kernel drops its locks, and ``sweep`` of the next run removes the folder.
"""

import fcntl
import os
import re
import secrets
import shutil
import tempfile
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from tracer.closing import Closing

SOCKETS = Path("/tmp")
"""The folder of folders for sockets. Not TMPDIR: a unix socket's path has at most 107 bytes."""


class Use(StrEnum):
    """What a private folder is for: a part of its name."""

    DRIVER = "driver"
    GUESTS = "guests"
    REPLAY = "replay"
    READER = "reader"
    REPORT = "report"
    FETCHED = "fetched"


NAME = re.compile(rf"blkbox-({'|'.join(Use)})-[0-9a-f]{{16}}")
"""The names of private folders."""


class PrivateFolder(Closing):
    """An empty folder for its owner alone. ``close`` removes it with all that is in it.

    It is in ``SOCKETS`` if it is for a socket, otherwise in TMPDIR. Raises OSError.
    """

    path: Path

    def __init__(self, use: Use) -> None:
        place = SOCKETS if use in (Use.DRIVER, Use.GUESTS) else Path(tempfile.gettempdir())
        self._lock: int | None = None
        while self._lock is None:
            self.path = place / f"blkbox-{use}-{secrets.token_hex(8)}"
            self.path.mkdir(0o700)
            self._lock = _owned(self.path)

    def close(self) -> None:
        """Remove the folder. A second call does nothing."""
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = None


def sweep() -> None:
    """Remove the private folders of processes that are gone.

    A folder stays if it is not ours, if its owner lives, or if a program listens on a socket in it:
    a driver may outlive us, and still serve somebody.
    """
    listening = _listening()
    for place in {SOCKETS, Path(tempfile.gettempdir())}:
        with suppress(OSError):
            for entry in os.scandir(place):
                if NAME.fullmatch(entry.name) and Path(entry.path) not in listening:
                    _remove_if_stale(entry.path)


def _owned(folder: Path) -> int | None:
    """Lock a new folder. Return the lock's descriptor; None if a sweep was faster."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with suppress(OSError):  # without locks on this file system, no sweep removes anything
        fcntl.flock(lock, fcntl.LOCK_EX)  # if a sweep has it, this waits until the folder is gone
    if os.fstat(lock).st_nlink:
        return lock
    os.close(lock)
    return None


def _remove_if_stale(folder: str) -> None:
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return  # it is gone, somebody else's, or no folder
    try:
        if os.fstat(lock).st_uid == os.geteuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return  # its owner lives
    finally:
        os.close(lock)


def _listening() -> set[Path]:
    """Return the folders of the unix sockets that a program has bound (proc(5))."""
    try:
        table = Path("/proc/net/unix").read_text(errors="replace")
    except OSError:
        return set()
    rows = (line.split(maxsplit=7) for line in table.splitlines()[1:])
    return {Path(row[7]).parent for row in rows if len(row) == 8}
