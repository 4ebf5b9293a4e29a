"""Whether an image's file system has room. If it has none, a failure is not the driver's fault."""

import os
from pathlib import Path

from tracer.errors import StorageError

ROOM = 16 << 20
"""Bytes. With less room than this, a driver's next step may fail: one that grows its image in large
steps asks for a few MiB at a time."""


def check_room(place: Path, remedy: str = "make room", needed: int = 0) -> None:
    """Call this before a driver is blamed. ``place`` is its image, or the folder of its images.
    ``needed`` is the bytes of a request that failed with ENOSPC: space that was only to be reserved
    is still free after the failure.

    Raises StorageError, with the remedy in its message, if the file system is full.
    """
    try:
        stat = os.statvfs(place if place.exists() else place.parent)
    except OSError:
        return  # there is no image: nothing can be said
    # a file system without a size, such as a tmpfs without a limit, reports no blocks at all
    if stat.f_blocks and stat.f_bavail * stat.f_frsize < ROOM + needed:
        raise StorageError(f"the file system with {place} is full: {remedy}")
