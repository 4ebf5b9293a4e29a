"""``trace record`` where our own disk is full."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.blkbox.commands.recorded import SIZE
from tests.kit import mounts
from tests.kit.command import trace
from tests.kit.peers import need
from tests.kit.system import entries, file_size_limit
from tests.kit.traces import read_trace
from tracer.errors import Exit
from tracer.op import Kind


@pytest.fixture
def small() -> Iterator[Path]:
    """A file system of 256 KiB."""
    with mounts.small(256) as folder:
        yield folder


SHORT = "blkbox: {folder} has 262144 bytes (256.0 KiB) free; {name} may grow by 8388608 (8.0 MiB)"

WRITES = """
import random
random.seed(1)
done = 0
try:
    for at in range(8000):
        h.pwrite(random.randbytes(512), at * 512)
        done += 1
except nbd.Error as error:
    print(done, error.errno)
"""


@pytest.mark.parametrize("payloads", ["full", "hash"])
def test_a_full_trace_disk(tmp_path: Path, small: Path, payloads: str) -> None:
    need("nbdsh")
    done = trace(
        "record", small / "t.trace", "--driver", "raw", "--size", SIZE, "--raw", "good.raw",
        "--image", "test.raw", "--payloads", payloads, "--", "nbdsh", "-u", "{nbd}", "-c", WRITES,
        cwd=tmp_path, expect=Exit.STORAGE,
    )  # fmt: skip
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(f"trace: cannot write {small}/t.")
    assert "No space left on device" in done.stderr
    acknowledged, error = done.stdout.split()
    assert error == "EIO"
    opened, ops = read_trace(small / "t.trace")
    assert 0 < int(acknowledged) <= len([op for op in ops if op.kind == Kind.WRITE])
    assert opened.torn_bytes == 0


def test_a_full_disk_for_the_reference_is_not_the_drivers_fault(
    tmp_path: Path, small: Path
) -> None:
    need("nbdsh")
    done = trace(
        "record", "t.trace", "--driver", "raw", "--size", SIZE, "--raw", small / "good.raw", "--",
        "nbdsh", "-u", "{nbd}", "-c", WRITES, cwd=tmp_path, expect=Exit.STORAGE,
    )  # fmt: skip
    warned, failed = done.stderr.splitlines()
    assert warned == SHORT.format(folder=small, name="good.raw")
    assert f"failed on {small}/good.raw: No space left on device" in failed
    assert done.stdout.split()[1] == "EIO"
    opened, _ = read_trace(tmp_path / "t.trace")
    assert opened.mismatches == []


@pytest.mark.parametrize("mode", ["stop", "continue"])
@pytest.mark.parametrize("driver", ["raw", "qcow2"])
def test_a_full_disk_for_the_test_image_is_not_the_drivers_fault(
    tmp_path: Path, small: Path, driver: str, mode: str
) -> None:
    need("nbdsh", "qemu-nbd", "qemu-img")
    done = trace(
        "record", "t.trace", "--driver", driver, "--size", SIZE, "--image", small / "test.img",
        "--on-mismatch", mode, "--", "nbdsh", "-u", "{nbd}", "-c", WRITES,
        cwd=tmp_path, expect=Exit.STORAGE,
    )  # fmt: skip
    full = f"trace: the file system with {small}/test.img is full: make room, or give another"
    warned, failed = done.stderr.splitlines()
    assert warned.startswith(f"blkbox: {small} has ")
    assert warned.endswith(f" free; test.img may grow by {SIZE} (8.0 MiB)") or driver == "qcow2"
    assert failed == f"{full} --image"
    assert done.stdout.split()[1] == "EIO"
    opened, _ = read_trace(tmp_path / "t.trace")
    assert opened.mismatches == []
    assert opened.end is not None
    assert opened.end.verdict == "incomplete"


def test_an_image_that_cannot_be_made_on_a_full_disk_is_not_the_drivers_fault(
    tmp_path: Path, small: Path
) -> None:
    need("qemu-img")
    (small / "filler").write_bytes(bytes(200 << 10))
    done = trace(
        "record", "t.trace", "--driver", "qcow2", "--size", SIZE, "--image", small / "test.img",
        "--", "true", cwd=tmp_path, expect=Exit.STORAGE,
    )  # fmt: skip
    assert done.stderr == f"trace: the file system with {small}/test.img is full: make room\n"
    assert entries(tmp_path) == []
    assert entries(small) == ["filler"]


def test_an_image_that_cannot_be_made_is_not_the_drivers_fault(tmp_path: Path) -> None:
    options = ["--driver", "raw", "--size", "1M", "--raw", "no/folder/x.raw"]
    done = trace("record", "t.trace", *options, "--", "true", cwd=tmp_path, expect=Exit.STORAGE)
    assert done.stderr == "trace: cannot create no/folder/x.raw: No such file or directory\n"
    assert entries(tmp_path) == []


def test_a_trace_that_cannot_even_begin_leaves_nothing_behind(tmp_path: Path, small: Path) -> None:
    (small / "filler").write_bytes(bytes(256 << 10))
    done = trace(
        "record", small / "t.trace", "--driver", "raw", "--size", "1M", "--raw", "good.raw",
        "--image",
        "test.raw", "--", "true", cwd=tmp_path, expect=Exit.STORAGE,
    )  # fmt: skip
    assert "No space left on device" in done.stderr
    assert entries(tmp_path) == []
    assert entries(small) == ["filler"]


def test_a_disk_that_no_file_can_hold_is_not_begun(tmp_path: Path) -> None:
    with file_size_limit(1 << 20):
        done = trace(
            "record", "t.trace", "--driver", "raw", "--size", "2M", "--", "true",
            cwd=tmp_path, expect=Exit.STORAGE,
        )  # fmt: skip
    assert done.stderr.startswith(
        "trace: cannot create t.raw: its file system cannot hold a file of 2.0 MiB (EFBIG"
    )
    assert len(done.stderr.splitlines()) == 1
    assert entries(tmp_path) == []


@pytest.mark.parametrize("size", ["9" * 5000, f"{'9' * 5000}G", f"1.{'9' * 5000}"])
def test_a_size_of_5000_digits_is_none(tmp_path: Path, size: str) -> None:
    done = trace(
        "record", "t.trace", "--driver", "raw", "--size", size, "--", "true",
        cwd=tmp_path, expect=Exit.USAGE,
    )  # fmt: skip
    assert len(done.stderr.splitlines()) == 1
    assert len(done.stderr) < 200
    assert entries(tmp_path) == []
