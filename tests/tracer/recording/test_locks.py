"""Locks on a recording's files."""

import fcntl
import os
import threading
from pathlib import Path

import pytest

from tests.kit.peers import need, peer
from tests.kit.system import descriptors, entries
from tracer.errors import StorageError, UsageError
from tracer.recording.locks import Locks, one_at_a_time


def refused(path: Path) -> bool:
    """Whether another recording may not use the file."""
    with Locks() as locks:
        try:
            locks.take(path)
        except UsageError as error:
            return str(error) == f"{path} is in use by another recording"
    return False


def test_a_lock_belongs_to_the_file_and_not_to_its_name(tmp_path: Path) -> None:
    path = tmp_path / "x.raw"
    path.write_text("data")
    (tmp_path / "soft").symlink_to("x.raw")
    (tmp_path / "hard").hardlink_to(path)
    names = [path, tmp_path / "soft", tmp_path / "hard"]
    with Locks() as locks:
        assert not locks.take(path)
        assert [refused(name) for name in names] == [True] * 3
        path.rename(tmp_path / "y.raw")
        assert refused(tmp_path / "y.raw")
        path.write_text("another file")
        assert not refused(path)
    assert not refused(tmp_path / "y.raw")
    assert path.read_text() == "another file"


def test_the_same_file_twice_in_one_recording(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch()
    (tmp_path / "y").hardlink_to(path)
    with Locks() as locks:
        locks.take(path)
        with pytest.raises(UsageError, match=r"/y and .*/x are the same file"):
            locks.take(tmp_path / "y")


def test_a_missing_file_is_made_on_demand_and_only_then(tmp_path: Path) -> None:
    with Locks() as locks:
        assert not locks.take(tmp_path / "x")
        assert entries(tmp_path) == []
        assert locks.take(tmp_path / "x", create=True)
        assert refused(tmp_path / "x")
        with pytest.raises(StorageError, match=r"cannot create .*/no/x: No such file"):
            locks.take(tmp_path / "no" / "x", create=True)
    with Locks() as locks:
        assert not locks.take(tmp_path / "x", create=True)  # it was there


def test_what_cannot_be_locked_is_left_to_who_uses_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with Locks() as locks:
        assert not locks.take(tmp_path)
        assert not locks.take(tmp_path / "pipe")
        assert not locks.take(Path("/dev/null"))


def test_a_file_that_is_replaced_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recording that made it did not start: it removed the file, and another made a new one."""
    path = tmp_path / "x"
    path.write_text("old")
    lock = fcntl.fcntl

    def replace(fd: int, command: int, argument: bytes) -> bytes:
        if path.read_text() == "old":
            path.unlink()
            path.write_text("new")
        return lock(fd, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", replace)
    with Locks() as locks:
        assert not locks.take(path)
        assert refused(path)


def test_closing_gives_all_descriptors_back(tmp_path: Path) -> None:
    before = descriptors()
    with Locks() as locks:
        locks.take(tmp_path / "x", create=True)
        assert refused(tmp_path / "x")
    locks.close()
    assert descriptors() == before


def test_a_driver_s_own_locks_are_not_in_the_way(tmp_path: Path) -> None:
    need("qemu-img", "qemu-io")
    path = tmp_path / "x.qcow2"
    peer("qemu-img", "create", "-q", "-f", "qcow2", path, "1M")
    with Locks() as locks, path.open("r+b") as other:
        locks.take(path)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        peer("qemu-io", "-f", "qcow2", "-c", "write 0 64k", path)  # it locks bytes of its image


def test_images_in_a_folder_are_made_by_one_at_a_time(tmp_path: Path) -> None:
    done = threading.Event()

    def another() -> None:
        with one_at_a_time(tmp_path):
            done.set()

    thread = threading.Thread(target=another)
    with one_at_a_time(tmp_path):
        thread.start()
        assert not done.wait(0.05)
    thread.join()
    assert done.is_set()
    with one_at_a_time(tmp_path / "missing"):
        pass
