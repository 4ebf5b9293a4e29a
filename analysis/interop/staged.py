"""Output files that appear whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tracer.errors import UsageError


@contextmanager
def staged(*targets: Path, force: bool) -> Iterator[Path]:
    """A new folder beside the targets, to write files of the same names in. Where the block ends
    without an error they take the targets' places, and a target that was not written anew is removed.

    Raises UsageError, before anything is done, where a target exists and ``force`` is off.
    """
    for path in targets:
        if path.exists() and not force:
            raise UsageError(f"{path} exists: name another, or give --force to replace it")
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is no file")
        if not path.parent.is_dir():
            raise UsageError(f"there is no folder {path.parent}")
    with tempfile.TemporaryDirectory(prefix=".blkbox-", dir=targets[0].parent) as folder:
        yield Path(folder)
        for path in targets:
            new = Path(folder) / path.name
            if new.exists():
                os.replace(new, path)
            else:
                path.unlink(missing_ok=True)
