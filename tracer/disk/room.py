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


def shortages(images: Iterable[Path], size: int) -> Iterator[str]:
    """Yield a line for each file system that cannot hold its images if they fill up. Images of
    ``size`` bytes are sparse: they take what was written to them, and the room may suffice."""
    places: defaultdict[int, list[Path]] = defaultdict(list)
    for image in images:
        places[image.stat().st_dev].append(image)
    for there in places.values():
        stat = os.statvfs(there[0])
        free = stat.f_bavail * stat.f_frsize
        needed = sum(max(size - image.stat().st_blocks * 512, 0) for image in there)
        if stat.f_blocks and free < needed:
            folder = there[0].absolute().parent
            what = "the images there" if len(there) > 1 else there[0].name
            yield (
                f"{folder} has {free} bytes ({in_words(free)}) free; {what} may grow by {needed} "
                f"({in_words(needed)})"
            )
