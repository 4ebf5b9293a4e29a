"""Create raw images: sparse files that read as zeroes."""

from pathlib import Path

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
