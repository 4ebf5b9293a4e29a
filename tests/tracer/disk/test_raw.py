"""New raw images."""

import resource
from pathlib import Path

import pytest

from tracer.disk.raw import make_raw
from tracer.errors import StorageError


def test_a_new_image_is_a_hole(tmp_path: Path) -> None:
    image = tmp_path / "new.raw"
    make_raw(image, 1 << 40)
    found = image.stat()
    assert (found.st_size, found.st_blocks) == (1 << 40, 0)
    with pytest.raises(StorageError, match="exists"):
        make_raw(image, 512)
    assert image.stat().st_size == 1 << 40


def test_a_size_that_the_file_system_cannot_hold(tmp_path: Path) -> None:
    """A limit of the process gives the same error as ext4 at 16 TiB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"cannot hold a file of 1\.0 TiB .* smaller disk"):
            make_raw(tmp_path / "new.raw", 1 << 40)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "new.raw").exists()
