"""Whether a file system is full: then a program that fails on it is not to blame."""

import shutil
from pathlib import Path

from tracer.errors import StorageError

ROOM = 16 << 20
"""Bytes. If the images' file system has less room, a failure is not blamed on the driver."""


def check_room(folder: Path) -> None:
    """Raise StorageError if the file system with ``folder`` is full."""
    if shutil.disk_usage(folder).free < ROOM:
        raise StorageError(f"the file system with {folder} is full: make room, or set TMPDIR")
