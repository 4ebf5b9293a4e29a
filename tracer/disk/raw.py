"""Create raw images: sparse files that read as zeroes, or copies of another raw image."""

import errno
from pathlib import Path

from tracer.disk import sparse
from tracer.errors import StorageError
from tracer.files import private
from tracer.text import size as in_words


def make_raw(path: Path, size: int) -> None:
    """Create a sparse raw image of ``size`` bytes.

    Raises StorageError, also if ``path`` exists.
    """
    try:
        with open(path, "xb", opener=private) as file:
            try:
                file.truncate(size)
            except OSError:
                path.unlink()
                raise
    except OSError as error:
        reason = error.strerror
        if error.errno == errno.EFBIG:
            reason = (
                f"its file system cannot hold a file of {in_words(size)} (EFBIG; ext4 ends below "
                "16 TiB): use another (XFS, btrfs), or a smaller disk"
            )
        raise StorageError(f"cannot create {path}: {reason}") from error


def copy_raw(source: Path, path: Path) -> None:
    """Create a raw image that holds what another does, with its holes.

    Raises StorageError, also if ``path`` exists.
    """
    try:
        sparse.copy(str(source), str(path))
    except OSError as error:
        raise StorageError(f"cannot copy {source} to {path}: {error.strerror}") from error
