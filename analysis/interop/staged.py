"""Output files that appear whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tracer.errors import UsageError
from tracer.files import check_free


@contextmanager
def staged(*targets: Path, force: bool) -> Iterator[Path]:
    """A new folder beside the targets, to write files of the same names in. Where the block ends
    without an error they take the targets' places, and a target that was not written anew is removed.

    Raises UsageError, before anything is done, where a target exists and ``force`` is off.
    """
    for path in targets:
        check_free(path, force)
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is no file")
    with tempfile.TemporaryDirectory(prefix=".blkbox-", dir=targets[0].parent) as folder:
        yield Path(folder)
        for path in targets:
            new = Path(folder) / path.name
            if new.exists():
                os.replace(new, path)
            else:
                path.unlink(missing_ok=True)
