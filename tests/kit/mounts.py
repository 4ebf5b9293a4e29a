"""Small file systems, to fill up."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small(kib: int) -> Iterator[Path]:
    """A file system of so many KiB. Skips the test where none can be mounted."""
    # not in tmp_path: where the tests are killed, what stays mounted is in no later run's way
    with tempfile.TemporaryDirectory(prefix="blkbox-test-") as name:
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", name]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("a small file system cannot be mounted here: that takes root")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)
