"""Files that a command makes: refused before the work, written whole or not at all."""

import os
from collections.abc import Collection
from pathlib import Path

from tracer.errors import UsageError


def check_new(path: Path, force: bool, suffixes: Collection[str] = ()) -> None:
    """Raise UsageError where ``path`` has none of the suffixes, where there is something already (unless
    ``force`` lets a file be replaced), or where there is no folder for it."""
    if suffixes and path.suffix.lower() not in suffixes:
        raise UsageError(f"{path}: the name must end in {', '.join(suffixes)}")
    if path.is_dir():
        raise UsageError(f"{path} is a folder")
    if path.exists() and not force:
        raise UsageError(f"{path} exists: name another, or give --force to replace it")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under another name, then move it to its own. Raises OSError; what was there is then
    as it was."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
