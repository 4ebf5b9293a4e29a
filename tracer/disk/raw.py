"""Create raw images: sparse files that read as zeroes, or copies of another raw image."""

from pathlib import Path

from tracer.disk import sparse
from tracer.errors import StorageError


def make_raw(path: Path, size: int) -> None:
    """Create a sparse raw image of ``size`` bytes.

    Raises StorageError, also if ``path`` exists.
    """
    try:
        with path.open("xb") as file:
            file.truncate(size)
    except OSError as error:
        raise StorageError(f"cannot create {path}: {error.strerror}") from error


def copy_raw(source: Path, path: Path) -> None:
    """Create a raw image that holds what another does, with its holes.

    Raises StorageError, also if ``path`` exists.
    """
    try:
        sparse.copy(str(source), str(path))
    except OSError as error:
        raise StorageError(f"cannot copy {source} to {path}: {error.strerror}") from error
