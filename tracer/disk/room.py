"""Whether an image's file system has room. If it has none, a failure is not the driver's fault."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from tracer.errors import StorageError
from tracer.text import size as in_words

ROOM = 16 << 20
"""Bytes. With less room than this, a driver's next step may fail: one that grows its image in large
steps asks for a few MiB at a time."""


SCRATCH_REMEDY = "make room, or set TMPDIR"
"""What helps if our own images have no room: they are in a temporary folder."""


def free_room(folder: Path) -> int | None:
    """Return the free bytes of a folder's file system; None if it has no size, as a tmpfs without a
    limit. Raises OSError."""
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize if stat.f_blocks else None


def check_room(place: Path, remedy: str = "make room", needed: int = 0) -> None:
    """Call this before a driver is blamed. ``place`` is its image, or the folder of its images.
    ``needed`` is the bytes of a request that failed with ENOSPC: space that was only to be reserved
    is still free after the failure.

    Raises StorageError, with the remedy in its message, if the file system is full.
    """
    try:
        free = free_room(place if place.exists() else place.parent)
    except OSError:
        return  # there is no image: nothing can be said
    if free is not None and free < ROOM + needed:
        raise StorageError(f"the file system with {place} is full: {remedy}")


def shortages(images: Iterable[Path], size: int) -> Iterator[str]:
    """Yield a line for each file system that cannot hold its images if they fill up. Images of
    ``size`` bytes are sparse: they take what was written to them, and the room may suffice."""
    places: defaultdict[int, list[Path]] = defaultdict(list)
    for image in images:
        places[image.stat().st_dev].append(image)
    for there in places.values():
        free = free_room(there[0])
        needed = sum(max(size - image.stat().st_blocks * 512, 0) for image in there)
        if free is not None and free < needed:
            folder = there[0].absolute().parent
            what = "the images there" if len(there) > 1 else there[0].name
            yield (
                f"{folder} has {free} bytes ({in_words(free)}) free; {what} may grow by {needed} "
                f"({in_words(needed)})"
            )
