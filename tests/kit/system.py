"""Waiting, and what this process and its folders hold."""

import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 300.0
"""Seconds after which a program that should have ended long ago is taken to hang."""


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for something that happens soon; fail if it never does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def descriptors() -> dict[str, str]:
    """The open file descriptors of this process, and what each is of."""
    names = os.listdir("/proc/self/fd")  # with that of the list itself, which is closed by now
    return {
        name: os.readlink(path)
        for name in names
        if os.path.lexists(path := f"/proc/self/fd/{name}")
    }


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """Writes beyond ``limit`` bytes of any file fail, after a partial one, as they do on a full
    disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def entries(folder: Path) -> list[str]:
    """The names in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())
