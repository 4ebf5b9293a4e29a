"""Copies keep their holes."""

import errno
import os
from pathlib import Path

import pytest

from tracer.disk import sparse


def test_a_copy_has_the_same_bytes_and_holes(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    with old.open("wb") as file:
        file.truncate(64 << 20)
        os.pwrite(file.fileno(), b"a" * 5000, 3 << 20)
        os.pwrite(file.fileno(), b"z", (64 << 20) - 1)
    sparse.copy(str(old), str(new))
    assert new.read_bytes() == old.read_bytes()
    assert new.stat().st_blocks * 512 < 1 << 20
    with pytest.raises(FileExistsError):
        sparse.copy(str(old), str(new))


def test_an_empty_file_is_copied(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    sparse.copy(str(tmp_path / "old"), str(tmp_path / "new"))
    assert (tmp_path / "new").stat().st_size == 0


def test_a_copy_to_another_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(bytes(8192) + os.urandom(3 << 20))

    def refuse(*_: int) -> int:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    sparse.copy(str(old), str(new))
    assert new.read_bytes() == old.read_bytes()
