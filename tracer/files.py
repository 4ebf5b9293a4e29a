"""Files that a command writes.

A name that cannot be used is refused before the work starts. A file appears complete or not at all.
"""

import errno
import os
import stat
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tracer.errors import StorageError, UsageError
from tracer.op import Buffer

Pathlike = str | os.PathLike[str]
"""How a caller may name a file."""

PICTURES = (".png", ".svg", ".pdf")
"""The suffixes that a picture's name may have."""


MAKER = "blkbox"
"""What our PNG pictures name as the software that made them."""

PAGES = (".html", ".htm")
"""The suffixes that a report's name may have."""


PRIVATE = 0o600
"""The mode of files that hold a guest's data."""


def private(path: str, flags: int) -> int:
    """Open a file for its owner alone: an ``opener`` for ``open``."""
    return os.open(path, flags, PRIVATE)


def check_file(path: Path) -> None:
    """Raise UsageError if ``path`` exists and is no regular file: a pipe would hang, and a device
    would be replaced."""
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is not a file: name another file")


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a .toml file holds. Raises UsageError if it cannot be read or is not TOML."""
    import tomllib  # few commands read such a file

    try:
        with os.fdopen(open_file(path), "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise UsageError(f"cannot open {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error


def open_file(path: Path) -> int:
    """Open a file or a block device for reading; return its descriptor. Raises OSError, also if it
    is anything else: a pipe would hang, and a terminal cannot be read twice."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
        return fd
    os.close(fd)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    raise OSError(errno.EINVAL, "it is not a file")


def check_free(path: Path, force: bool) -> None:
    """Raise UsageError if ``path`` exists without ``force``, if it is a pipe, a device or a folder,
    or if its own folder does not exist."""
    check_file(path)
    if path.exists() and not force:
        raise UsageError(f"{path} exists: name another file, or give --force to replace it")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}")


def check_new(path: Path, force: bool, suffixes: Collection[str] = ()) -> None:
    """Raise UsageError if ``path`` is not a usable name for a new file.

    The rules of ``check_free`` apply. The name must also end in one of ``suffixes``, if there are
    any.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise UsageError(f"{path}: the name must end in {', '.join(suffixes)}")
    check_free(path, force)


def is_ours(picture: Path) -> bool:
    """Whether blkbox made a PNG picture, by the keyword Software in its head. Raises OSError."""
    with picture.open("rb") as file:
        head = file.read(4096)  # such keywords come before the pixels, after at most a few others
    return b"tEXtSoftware\0" + MAKER.encode() in head


def replaced(new: Collection[Path], sources: Iterable[Path]) -> Path | None:
    """Return the first source that is the same file as one of ``new``, even under another name."""
    for source in sources:
        if source.exists() and any(path.exists() and path.samefile(source) for path in new):
            return source
    return None


def pwrite_all(fd: int, data: Buffer, offset: int) -> None:
    """Write all of ``data`` at byte ``offset``: a single call may write a part. Raises OSError."""
    written = os.pwrite(fd, data, offset)
    while written < len(data):
        written += os.pwrite(fd, memoryview(data)[written:], offset + written)


@contextmanager
def whole(*targets: Path) -> Iterator[Path]:
    """Yield a temporary folder for new versions of the targets, with the same names.

    All targets must be in one folder. If the block ends without an exception, each new file
    replaces its target, in the order given, and a target without a new file is removed. Otherwise
    the targets are untouched. The temporary folder is removed in either case. Raises StorageError,
    which names a target, for any OSError; a StorageError of the block about a new file names the
    target too.
    """
    names = {}
    try:
        # beside the targets, on the same file system, so that each rename is atomic
        with tempfile.TemporaryDirectory(prefix=".blkbox-", dir=targets[0].parent) as name:
            folder = Path(name)
            names = {str(folder / path.name): str(path) for path in targets}
            yield folder
            for path in targets:
                new = folder / path.name
                if new.exists():
                    os.replace(new, path)
                else:
                    path.unlink(missing_ok=True)
    except StorageError as error:
        text = str(error)
        for new_name, target in names.items():
            text = text.replace(new_name, target)
        raise StorageError(text) from error
    except OSError as error:
        where = names.get(str(error.filename), str(targets[-1]))
        raise StorageError(f"cannot write {where}: {error.strerror or error}") from error


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` to a file that appears complete or not at all. Raises StorageError."""
    with whole(path) as folder:
        (folder / path.name).write_bytes(content)
