"""Files that a command makes: refused before the work, written whole or not at all."""

import os
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tracer.errors import UsageError

PICTURES = (".png", ".svg", ".pdf")
"""How the name of a picture may end."""


def check_free(path: Path, force: bool) -> None:
    """Raise UsageError if ``path`` exists (unless ``force`` allows replacing it), or if there is no
    folder for it."""
    if path.exists() and not force:
        raise UsageError(f"{path} exists: name another, or give --force to replace it")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}")


def check_new(path: Path, force: bool, suffixes: Collection[str] = ()) -> None:
    """``check_free`` for a file that ``whole`` puts in place. Also raise UsageError if the name does
    not end in one of the suffixes, or if a folder or a device has that name."""
    if suffixes and path.suffix.lower() not in suffixes:
        raise UsageError(f"{path}: the name must end in {', '.join(suffixes)}")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no file: name another")
    check_free(path, force)


def replaced(new: Collection[Path], sources: Iterable[Path]) -> Path | None:
    """The first source that writing the ``new`` files would replace, under whatever name."""
    for source in sources:
        if source.exists() and any(path.exists() and path.samefile(source) for path in new):
            return source
    return None


@contextmanager
def whole(*targets: Path) -> Iterator[Path]:
    """A new folder beside the targets, which must share one folder. Write files of the same names
    in it. If the block ends without an exception, each takes its target's place, in the order given,
    and a target without a new file is removed. Otherwise the targets are untouched. The folder goes in
    either case, with anything else in it. Raises OSError.
    """
    # on the targets' file system, so that a rename is atomic
    with tempfile.TemporaryDirectory(prefix=".blkbox-", dir=targets[0].parent) as name:
        folder = Path(name)
        yield folder
        for path in targets:
            new = folder / path.name
            if new.exists():
                os.replace(new, path)
            else:
                path.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole. Raises OSError."""
    with whole(path) as folder:
        (folder / path.name).write_bytes(content)
