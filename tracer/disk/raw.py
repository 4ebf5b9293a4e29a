"""Raw images, made anew."""

from pathlib import Path

from tracer.errors import StorageError


def make_raw(path: Path, size: int) -> None:
    """Make a sparse raw image. Raises StorageError."""
    try:
        with path.open("xb") as file:
            file.truncate(size)
    except OSError as error:
        raise StorageError(f"cannot create {path}: {error.strerror}") from error
