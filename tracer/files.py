"""Files that a command makes: refused before the work, written whole or not at all."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from tracer.errors import UsageError

PICTURES = (".png", ".svg", ".pdf")
"""How the name of a picture may end."""


def check_free(path: Path, force: bool) -> None:
    """Raise UsageError where there is something at ``path`` already (unless ``force`` lets it be
    replaced), or where there is no folder for it."""
    if path.exists() and not force:
        raise UsageError(f"{path} exists: name another, or give --force to replace it")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}")


def check_new(path: Path, force: bool, suffixes: Collection[str] = ()) -> None:
    """``check_free`` for one new file, the name of which must end in one of the suffixes, if any."""
    if suffixes and path.suffix.lower() not in suffixes:
        raise UsageError(f"{path}: the name must end in {', '.join(suffixes)}")
    if path.is_dir():
        raise UsageError(f"{path} is a folder")
    check_free(path, force)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Another name for a new file, which takes the place of ``path`` where the block ends without an
    error. What was there is else as it was."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole. Raises OSError."""
    with whole(path) as part:
        part.write_bytes(content)
