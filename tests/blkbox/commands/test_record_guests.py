"""``trace record`` with real programs as guests."""

import json
from pathlib import Path

import pytest

from tests.blkbox.commands.recorded import DRIVERS, SIZE, mine, rebuild, record
from tests.kit.data import MIB, pattern
from tests.kit.drivers import NBDKIT, toml
from tests.kit.guests import nbdsh
from tests.kit.peers import need
from tests.kit.traces import kinds

# ---------------------------------------------------------------- qemu-img


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """A raw image of data, zeroes and holes."""
    path = tmp_path / "content.img"
    with path.open("wb") as file:
        for at in range(0, SIZE, MIB):
            file.seek(at)
            file.write(pattern(100_000, at) + bytes(50_000))
        file.truncate(SIZE)
    return path


@pytest.mark.parametrize("driver", DRIVERS)
def test_qemu_img_converts_in_and_out(tmp_path: Path, content: Path, driver: str) -> None:
    need("qemu-img")
    script = (
        'set -e; qemu-img info "$1"; qemu-img convert -n -f raw -O raw content.img "$1"; '
        'qemu-img compare -f raw -F raw content.img "$1"; '
        'qemu-img convert -f raw -O raw "$1" back.img; cmp content.img back.img'
    )
    record(tmp_path, driver, "sh", "-c", script, "sh", "{nbd}")
    assert rebuild(tmp_path / "t.trace") == content.read_bytes()


# ---------------------------------------------------------------- libnbd


def test_nbdinfo_shows_what_is_offered(tmp_path: Path) -> None:
    need("nbdinfo")
    record(tmp_path, "raw", "sh", "-c", 'nbdinfo --json "$1" >info.json', "sh", "{nbd}")
    (export,) = json.loads((tmp_path / "info.json").read_text())["exports"]
    assert export["export-size"] == SIZE
    offered = {name for name, value in export.items() if value is True}
    assert offered == {
        "can_cache", "can_df", "can_fast_zero", "can_flush", "can_fua", "can_multi_conn",
        "can_trim",
        "can_zero",
    }  # fmt: skip
    assert export["contexts"] == ["base:allocation"]
    assert export["block_size_maximum"] == 32 * MIB


def test_what_the_driver_does_not_offer_is_not_offered(tmp_path: Path) -> None:
    need("nbdinfo", "nbdkit")
    driver = toml(
        tmp_path, serve=[*NBDKIT, "--filter=noextents", "--filter=nozero", "memory", "{size}"]
    )
    record(tmp_path, driver, "sh", "-c", 'nbdinfo --json "$1" >info.json', "sh", "{nbd}")
    (export,) = json.loads((tmp_path / "info.json").read_text())["exports"]
    assert not export["can_zero"]
    assert not export["can_fast_zero"]
    assert export["can_trim"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_nbdcopy_in_and_out(tmp_path: Path, content: Path, driver: str) -> None:
    need("nbdcopy")
    script = (
        'set -e; copy="nbdcopy --connections=4 --threads=4"; '
        '$copy content.img "$1"; $copy "$1" back.img; cmp content.img back.img'
    )
    result = record(tmp_path, driver, "sh", "-c", script, "sh", "{nbd}")
    assert result["connections"] >= 8
    assert rebuild(tmp_path / "t.trace") == content.read_bytes()


def test_guests_on_several_connections(tmp_path: Path) -> None:
    script = """
import nbd, os
others = [nbd.NBD() for _ in range(3)]
for other in others:
    other.connect_uri(os.environ["NBD_URI"])
h.pwrite(b"a" * 512, 0)
for at, other in enumerate(others):
    assert other.pread(512, at * 512) == b"a" * 512
    other.pwrite(b"a" * 512, (at + 1) * 512)
    other.flush()
assert h.pread(2048, 0) == b"a" * 2048
"""
    result = record(tmp_path, "qcow2", *nbdsh(script))
    assert result["connections"] == 4
    assert {op.connection for op in mine(tmp_path)} == {1, 2, 3, 4}


def test_structured_replies_and_block_status(tmp_path: Path) -> None:
    script = """
assert h.get_structured_replies_negotiated()
h.pwrite(b"a" * 65536, 1 << 20)
chunks = []
def chunk(data, at, what, error):
    chunks.append((bytes(data), at))
h.pread_structured(4096, 1 << 20, chunk, nbd.CMD_FLAG_DF)
assert chunks == [(b"a" * 4096, 1 << 20)], chunks
"""
    record(tmp_path, "qcow2", *nbdsh(script))
    extents = """
h = nbd.NBD()
h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
h.connect_uri(os.environ["NBD_URI"])
assert h.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
h.pwrite(b"a" * 65536, 1 << 20)
found = []
h.block_status(1 << 21, 0, lambda context, at, entries, error: found.append((context, at, entries)))
assert found == [("base:allocation", 0, [1 << 20, 3, 65536, 0, (1 << 20) - 65536, 3])], found
one = []
def keep(context, at, entries, error):
    one.append(entries)
h.block_status(1 << 21, 0, keep, nbd.CMD_FLAG_REQ_ONE)
assert one == [[1 << 20, 3]], one
"""
    record(tmp_path, "qcow2", "nbdsh", "-c", "import os", "-c", extents, options=["--force"])
    assert kinds(mine(tmp_path)) == ["write", "block_status", "block_status"]


def test_requests_that_break_the_rules_are_refused_and_not_recorded(tmp_path: Path) -> None:
    """And the connection goes on, in step."""
    script = """
import errno
h.set_strict_mode(0)
def refused(call, *arguments):
    try:
        call(*arguments)
    except nbd.Error as error:
        return error.errno
    raise AssertionError("it was not refused")
size = h.get_size()
assert refused(h.pread, 512, size) == "EINVAL"
assert refused(h.pwrite, b"x" * 512, size) == "ENOSPC"
assert refused(h.trim, 512, size) == "ENOSPC"
assert refused(h.zero, 512, size - 256) == "ENOSPC"
assert refused(h.pread, 0, 0) == "EINVAL"
assert refused(h.pwrite, b"x" * 512, 0, 1 << 7) == "EINVAL"
assert refused(h.block_status, 512, 0, lambda *_: 0) == "EINVAL"
h.pwrite(b"y" * 512, 0)
assert h.pread(512, 0) == b"y" * 512
"""
    record(tmp_path, "raw", *nbdsh(script))
    assert kinds(mine(tmp_path)) == ["write", "read"]


def test_many_requests_in_flight(tmp_path: Path) -> None:
    """More than the recorder takes in at a time, overlapping, and a goodbye behind them."""
    script = """
import random
random.seed(5)
for at in range(2000):
    data = nbd.Buffer.from_bytearray(bytearray([at % 255 + 1]) * 1536)
    h.aio_pwrite(data, random.randrange(2000) * 512)
while h.aio_in_flight():
    h.poll(-1)
"""
    result = record(tmp_path, "qcow2", *nbdsh(script))
    assert result["ops"]["write"] == 2000
    assert rebuild(tmp_path / "t.trace") == (tmp_path / "t.raw").read_bytes()


# ---------------------------------------------------------------- fio


@pytest.mark.parametrize("driver", DRIVERS)
def test_fio_verifies_what_it_wrote(tmp_path: Path, driver: str) -> None:
    need("fio")
    result = record(
        tmp_path, driver, "fio", "--name=load", "--ioengine=nbd", "--uri={nbd}", "--rw=randwrite",
        "--bsrange=4k-64k", "--size=4m", "--iodepth=16", "--verify=crc32c", "--randseed=7",
        "--fsync=20", "--output=fio.txt",
    )  # fmt: skip
    assert result["guest_exit"] == 0
    assert result["bytes"]["read"] >= result["bytes"]["write"] >= 4 * MIB - 65536
    assert rebuild(tmp_path / "t.trace") == (tmp_path / "t.raw").read_bytes()
