"""Disks whose size is no whole number of sectors, and the empty disk, through every verb."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.kit.command import trace
from tests.kit.guests import nbdsh
from tests.kit.peers import need
from tracer.disk.raw import make_raw

SIZES = (1, 511, 513, 65_537, 1_000_001)

PICTURES = ("timeline", "latency", "throughput", "sizes", "heatmap")


def record(folder: Path, size: int, driver: str, *, expect: int = 0) -> dict[str, Any]:
    """Record a guest that works at the end of the disk, to its last byte."""
    need("nbdsh")
    tail = min(size, 700)
    script = f"assert h.get_size() == {size}\n" + (
        f"h.pwrite(b'x' * {tail}, {size - tail})\n"
        f"h.flush()\n"
        f"assert h.pread({tail}, {size - tail}) == b'x' * {tail}\n"
        f"if {size} > 1: h.zero(1, {size - 1})\n"
        f"h.pwrite(b'y', {size - 1})\n"
        if size
        else "h.flush()\n"
    )
    done = trace(
        "record", "t.trace", "--driver", driver, "--size", size, "--json", "--",
        *nbdsh(script), cwd=folder, expect=expect,
    )  # fmt: skip
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("driver", ["raw", "qcow2", "vmdk", "vpc"])
@pytest.mark.parametrize("size", SIZES)
def test_recorded_replayed_and_checked_out(tmp_path: Path, driver: str, size: int) -> None:
    need("qemu-nbd", "qemu-img")
    assert record(tmp_path, size, driver)["verdict"] == "clean"
    assert (tmp_path / "t.raw").stat().st_size == size
    trace("replay", "t.trace", "--driver", driver, cwd=tmp_path)
    trace("checkout", "t.trace", "-o", "at.raw", cwd=tmp_path)
    assert (tmp_path / "at.raw").read_bytes() == (tmp_path / "t.raw").read_bytes()
    assert (tmp_path / "at.raw").read_bytes()[-1:] == b"y"


@pytest.mark.parametrize("size", [0, 1, 1_000_001])
def test_every_verb_takes_its_trace(tmp_path: Path, size: int) -> None:
    need("nbdcopy")
    record(tmp_path, size, "raw")
    for kind in PICTURES:
        trace("plot", kind, "t.trace", cwd=tmp_path)
        assert (tmp_path / f"t.{kind}.png").stat().st_size > 1000
    for verb in ("show", "verify", "report"):
        trace(verb, "t.trace", cwd=tmp_path)
    trace("cut", "t.trace", "--to", "0", "-o", "c.trace", cwd=tmp_path)
    trace("strip", "t.trace", "-o", "s.trace", cwd=tmp_path)
    trace("diff", "t.trace", "s.trace", cwd=tmp_path)
    trace("replay", "s.trace", "--driver", "raw", cwd=tmp_path)
    for suffix in ("parquet", "json", "iolog"):
        trace("export", "t.trace", "-o", f"t.{suffix}", cwd=tmp_path)
    trace("serve", "t.trace", "--", "nbdcopy", "{nbd}", "copy.raw", cwd=tmp_path)
    assert (tmp_path / "copy.raw").read_bytes() == (tmp_path / "t.raw").read_bytes()


def test_the_last_sector_counts(tmp_path: Path) -> None:
    record(tmp_path, 1_000_001, "raw")
    assert "(1,954 sectors)" in trace("show", "t.trace", cwd=tmp_path).stdout
    assert "#4  write" in trace("history", "t.trace", "--sector", "1953", cwd=tmp_path).stdout
    told = trace("history", "t.trace", "--sector", "1954", cwd=tmp_path, expect=200).stderr
    assert "there is no sector 1954: the disk's last is 1953" in told


def test_an_empty_disk_has_no_sector(tmp_path: Path) -> None:
    record(tmp_path, 0, "qcow2")
    trace("replay", "t.trace", "--driver", "raw", cwd=tmp_path)
    told = trace("history", "t.trace", "--sector", "0", cwd=tmp_path, expect=200).stderr
    assert told == "trace: there is no sector 0: the disk is empty\n"


PLUGIN = """
import os

def config(key, value):
    global fd
    fd = os.open(value, os.O_RDWR)

def open(readonly): return 1
def get_size(h): return os.fstat(fd).st_size
def pread(h, count, offset): return os.pread(fd, count, offset)
def pwrite(h, buf, offset):
    if offset == get_size(h) - 1: return   # the last byte is lost
    os.pwrite(fd, buf, offset)
def flush(h): pass
def zero(h, count, offset, may_trim): os.pwrite(fd, bytes(count), offset)
"""


def test_damage_in_the_short_sector_has_its_culprit(tmp_path: Path) -> None:
    need("nbdkit")
    record(tmp_path, 1_000_001, "raw")
    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "lost.toml").write_text(
        'create = ["truncate", "-s", "{size}", "{image}"]\n'
        'serve = ["nbdkit", "--foreground", "--unix", "{socket}", "python", "{here}/plugin.py",'
        ' "file={image}"]\n'
    )
    done = trace("replay", "t.trace", "--driver", "lost.toml", "--json", cwd=tmp_path, expect=1)
    verdict = json.loads(done.stdout)
    assert verdict["verdict"] == "damaged"
    assert (verdict["culprit"]["offset"], verdict["culprit"]["length"]) == (1_000_000, 1)
    assert [(found["sector"], found["class"]) for found in verdict["damage"]] == [
        (1953, "lost-write")
    ]
    assert (tmp_path / "t.damage.png").stat().st_size > 1000


def test_a_driver_of_whole_blocks_says_what_it_needs(tmp_path: Path) -> None:
    need("qemu-nbd", "qemu-img")
    told = trace(
        "record", "t.trace", "--driver", "qed", "--size", "1000001", cwd=tmp_path, expect=125
    ).stderr
    assert told == (
        "trace: qed takes requests in blocks of 512 bytes: it needs a disk whose size is a "
        "multiple of that, and 1000001 is none\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_served_disk_that_is_rounded_up_otherwise_is_refused(tmp_path: Path) -> None:
    need("nbdkit")
    record(tmp_path, 513, "raw")
    (tmp_path / "more.toml").write_text(
        'create = ["touch", "{image}"]\n'
        'serve = ["nbdkit", "--foreground", "--unix", "{socket}", "memory", "1536"]\n'
    )
    told = trace("replay", "t.trace", "--driver", "more.toml", cwd=tmp_path, expect=125)
    assert "more serves 1536 bytes where 513 were asked for" in told.stdout + told.stderr


def test_images_of_that_size_are_used(tmp_path: Path) -> None:
    need("nbdsh")
    make_raw(tmp_path / "t.raw", 1_000_001)
    make_raw(tmp_path / "t.test.raw", 1_000_001)
    assert record(tmp_path, 1_000_001, "raw")["size"] == 1_000_001
