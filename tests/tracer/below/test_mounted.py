"""A FUSE file: what is done to it is logged, and done to the file behind it."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kit.peers import need_fuse
from tests.kit.system import PATIENCE
from tracer.below.log_writes import entries
from tracer.below.mounted import Mounted
from tracer.below.op import LowerKind, LowerOp
from tracer.disk import sparse
from tracer.op import SECTOR


@pytest.fixture(autouse=True)
def _fuse() -> None:
    need_fuse()


K = LowerKind


def places(ops: list[LowerOp]) -> list[tuple[LowerKind, int, int]]:
    return [(op.kind, op.offset, op.length) for op in ops]


def test_each_operation_is_logged_before_it_is_answered(tmp_path: Path) -> None:
    file, log = tmp_path / "a.img", tmp_path / "log"
    file.write_bytes(b"a" * 8192)
    with Mounted(file, log) as mounted:
        fd = os.open(mounted.path, os.O_RDWR)
        assert os.pread(fd, 100, 0) == b"a" * 100
        os.pwrite(fd, b"b" * 1024, 512)
        assert places(list(entries(log))) == [(K.WRITE, 512, 1024)]
        os.fsync(fd)
        sparse.punch(fd, 4096, 4096)
        sparse.zero(fd, 0, 512)
        os.ftruncate(fd, 65536)
        os.posix_fallocate(fd, 65536, 4096)
        os.fdatasync(fd)
        found = places(list(entries(log)))
        os.close(fd)
    assert found == [
        (K.WRITE, 512, 1024), (K.FLUSH, 0, 0), (K.DISCARD, 4096, 4096), (K.ZERO, 0, 512),
        (K.TRUNCATE, 0, 65536), (K.TRUNCATE, 0, 69632), (K.FLUSH, 0, 0),
    ]  # fmt: skip
    wanted = bytes(512) + b"b" * 1024 + b"a" * 2560 + bytes(69632 - 4096)
    assert file.read_bytes() == wanted


def test_what_is_no_sector_is_logged_with_its_sectors(tmp_path: Path) -> None:
    file, log = tmp_path / "a.img", tmp_path / "log"
    file.write_bytes(b"a" * 1024)
    with Mounted(file, log) as mounted, mounted.path.open("r+b", buffering=0) as opened:
        opened.seek(500)
        opened.write(b"b" * 24)
    (op,) = entries(log)
    assert places([op]) == [(K.WRITE, 0, 1024)]
    data = log.read_bytes()[op.data_at : op.log_end]
    assert data == b"a" * 500 + b"b" * 24 + b"a" * 500


def test_the_log_makes_the_file(tmp_path: Path) -> None:
    chance = random.Random(0)
    file, log = tmp_path / "a.img", tmp_path / "log"
    held = bytearray(chance.randbytes(64 * SECTOR))
    file.write_bytes(held)
    with Mounted(file, log) as mounted:
        fd = os.open(mounted.path, os.O_RDWR)
        for _ in range(100):
            offset, length = chance.randrange(100) * SECTOR, chance.randrange(1, 9) * SECTOR
            match chance.randrange(5):
                case 0:
                    os.ftruncate(fd, offset)
                case 1:
                    sparse.punch(fd, offset, length)
                case 2:
                    sparse.zero(fd, offset, length)
                case _:
                    os.pwrite(fd, chance.randbytes(length), offset)
        os.close(fd)
    logged = log.read_bytes()
    for op in entries(log):
        if op.kind is K.TRUNCATE:
            held = held[: op.length].ljust(op.length, b"\0")
        else:
            data = logged[op.data_at : op.log_end] if op.kind is K.WRITE else bytes(op.length)
            held = held.ljust(op.end, b"\0")
            held[op.offset : op.end] = data
    assert bytes(held) == file.read_bytes()


def test_nothing_stays_when_we_are_killed(tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(bytes(4096))
    script = (
        "import sys, time; from pathlib import Path; from tracer.below.mounted import Mounted\n"
        "with Mounted(Path('a.img'), Path('log')) as mounted:\n"
        "    print(mounted.path, mounted._process.pid, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    assert process.stdout is not None
    path, pid = process.stdout.readline().split()
    assert Path(path).exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}").exists() or os.path.ismount(Path(path).parent):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.stdout.close()


def test_an_op_fails_when_its_turn_has_come(tmp_path: Path) -> None:
    file, log = tmp_path / "a.img", tmp_path / "log"
    file.write_bytes(bytes(4096))
    with Mounted(file, log, (1, errno.EIO)) as mounted:
        fd = os.open(mounted.path, os.O_RDWR)
        os.pwrite(fd, b"a" * 512, 0)
        with pytest.raises(OSError, match="Input/output"):
            os.fsync(fd)
        os.fsync(fd)
        os.close(fd)
    assert [(op.kind, op.error) for op in entries(log)] == [
        (K.WRITE, 0), (K.FLUSH, errno.EIO), (K.FLUSH, 0),
    ]  # fmt: skip


@pytest.mark.parametrize("freed", [True, False])
def test_a_disk_is_full_until_something_is_freed(tmp_path: Path, freed: bool) -> None:
    file, log = tmp_path / "a.img", tmp_path / "log"
    file.write_bytes(bytes(4096))
    with Mounted(file, log, (0, errno.ENOSPC)) as mounted:
        fd = os.open(mounted.path, os.O_RDWR)
        os.fsync(fd)  # it needs no room
        for offset in (4096, 8192):
            with pytest.raises(OSError, match="No space"):
                os.pwrite(fd, b"a" * 512, offset)
        os.pwrite(fd, b"a" * 512, 0)
        if freed:
            sparse.punch(fd, 0, 512)
        else:
            mounted.calm()
        os.pwrite(fd, b"b" * 512, 4096)
        os.close(fd)
    assert file.read_bytes() == (bytes(512) if freed else b"a" * 512) + bytes(3584) + b"b" * 512
