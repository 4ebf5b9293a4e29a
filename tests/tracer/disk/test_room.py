"""Whether a file system has room."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tracer.disk.room import ROOM, check_room
from tracer.errors import StorageError


def disk(monkeypatch: pytest.MonkeyPatch, free: int, blocks: int = 1 << 30) -> None:
    """Let every file system have this many free bytes."""
    found = SimpleNamespace(f_blocks=blocks, f_bavail=free // 512, f_frsize=512)
    monkeypatch.setattr(os, "statvfs", lambda _: found)


def test_a_disk_with_room_is_no_excuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, ROOM)
    check_room(tmp_path)


def test_a_full_disk_is_named_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(monkeypatch, ROOM - 512)
    with pytest.raises(StorageError) as found:
        check_room(tmp_path / "test.img", "buy a disk")
    assert str(found.value) == f"the file system with {tmp_path}/test.img is full: buy a disk"


def test_what_was_only_to_be_reserved_is_free_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(monkeypatch, 1 << 30)
    check_room(tmp_path, needed=1 << 29)
    with pytest.raises(StorageError):
        check_room(tmp_path, needed=1 << 30)


def test_a_file_system_without_a_size_is_never_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(monkeypatch, 0, blocks=0)
    check_room(tmp_path)


def test_where_nothing_is_nothing_is_said(tmp_path: Path) -> None:
    check_room(tmp_path / "no" / "image")
