"""Private folders: whose they are, and which of them a sweep removes."""

import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from tests.kit.system import entries
from tracer.disk import private
from tracer.disk.private import PrivateFolder, Use, sweep

STALE = "blkbox-replay-0123456789abcdef"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where private folders of all kinds are: what others have in /tmp is none of a test's."""
    monkeypatch.setattr(private, "SOCKETS", tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def stale(place: Path) -> Path:
    """What a killed process has left."""
    folder = place / STALE
    folder.mkdir(0o700)
    (folder / "test.raw").write_bytes(b"x")
    return folder


def test_a_folder_is_its_owners_alone_and_goes_with_all_that_is_in_it(place: Path) -> None:
    with PrivateFolder(Use.REPLAY) as folder:
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        assert folder.path.parent == place
        (folder.path / "run").mkdir()
        (folder.path / "run" / "test.raw").write_bytes(b"x")
        sweep()
        assert (folder.path / "run" / "test.raw").exists()
    assert entries(place) == []


def test_a_sweep_removes_what_a_killed_process_left(place: Path) -> None:
    code = (
        "import os, signal, tempfile, sys\n"
        "from pathlib import Path\n"
        "from tracer.disk import private\n"
        "private.SOCKETS = Path(sys.argv[1]); tempfile.tempdir = sys.argv[1]\n"
        "folders = [private.PrivateFolder(use) for use in private.Use]\n"
        "print(len(folders), flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        sweep()
        assert len(entries(place)) == len(Use)  # their owner lives
        process.send_signal(signal.SIGKILL)
    sweep()
    assert entries(place) == []


def test_a_program_that_we_started_does_not_keep_a_folder(place: Path) -> None:
    folder = PrivateFolder(Use.DRIVER)
    with subprocess.Popen(["sleep", "100"], close_fds=False) as child:
        os.close(folder._lock)  # as our end does
        folder._lock = None
        sweep()
        child.kill()
    assert entries(place) == []


def test_a_folder_stays_while_a_driver_listens_in_it(stale: Path, place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as driver:
        driver.bind(str(stale / "nbd"))
        driver.listen()
        sweep()
        assert (stale / "nbd").exists()
    sweep()
    assert entries(place) == []


def test_a_sweep_follows_no_link_and_removes_nothing_else(stale: Path, place: Path) -> None:
    others = place / "others"
    others.mkdir()
    (others / "file").write_bytes(b"x")
    (place / "blkbox-replay-1111111111111111").symlink_to(others)
    (stale / "link").symlink_to(others)
    (place / "blkbox-driver-2222222222222222").write_bytes(b"a file")
    for name in ("blkbox-kept", "blkbox-replay-mine", f"{STALE}0", "blkbox-0123456789abcdef"):
        (place / name).mkdir()
    before = set(entries(place))
    sweep()
    assert before - set(entries(place)) == {STALE}
    assert (others / "file").exists()


def test_somebody_elses_folder_stays(stale: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    sweep()
    assert stale.exists()


def test_a_folder_that_a_sweep_took_before_its_lock_is_made_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, taken = fcntl.flock, []

    def flock(fd: int, operation: int) -> None:
        if not taken:  # between the folder and its lock
            taken.append(fd)
            thread = Thread(target=sweep)
            thread.start()
            thread.join()
            assert entries(place) == []
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with PrivateFolder(Use.READER) as folder:
        assert folder.path.is_dir()
        sweep()
        assert folder.path.is_dir()
    assert entries(place) == []
