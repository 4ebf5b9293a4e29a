"""Whether a file system has room."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from tracer.disk.room import ROOM, check_room, shortages
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


def made(folder: Path, names: Sequence[str]) -> list[Path]:
    for name in names:
        (folder / name).touch()
        os.truncate(folder / name, 1 << 30)
    return [folder / name for name in names]


def test_images_that_fit_are_no_shortage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = made(tmp_path, ["a.raw", "b.raw"])
    disk(monkeypatch, 2 << 30)
    assert list(shortages(images, 1 << 30)) == []


def test_a_shortage_says_where_and_how_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = made(tmp_path, ["a.raw", "b.raw"])
    disk(monkeypatch, 3 << 29)
    assert list(shortages(images, 1 << 30)) == [
        f"{tmp_path} has 1610612736 bytes (1.5 GiB) free; the images there may grow by 2147483648 "
        "(2.0 GiB)"
    ]
    disk(monkeypatch, 1 << 29)
    assert list(shortages(images[:1], 1 << 30)) == [
        f"{tmp_path} has 536870912 bytes (512.0 MiB) free; a.raw may grow by 1073741824 (1.0 GiB)"
    ]


def test_what_an_image_has_already_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "a.raw"
    image.write_bytes(b"x" * (1 << 20))
    os.sync()
    disk(monkeypatch, 1 << 20)
    assert list(shortages([image], 2 << 20)) == []
    assert len(list(shortages([image], 3 << 20))) == 1


def test_a_file_system_without_a_size_is_never_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(monkeypatch, 0, blocks=0)
    assert list(shortages(made(tmp_path, ["a.raw"]), 1 << 30)) == []
