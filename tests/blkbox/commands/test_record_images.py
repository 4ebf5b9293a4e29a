"""``trace record`` with images that are there already."""

from pathlib import Path

import pytest

from tests.blkbox.commands.recorded import DRIVERS, SIZE, rebuild, record
from tests.kit.command import trace
from tests.kit.data import MIB, pattern
from tests.kit.guests import qemu_io
from tests.kit.overlay import write_overlay
from tests.kit.peers import need, peer
from tests.kit.system import entries
from tests.kit.traces import read_trace
from tracer.op import Kind
from tracer.trace.payload_reader import PayloadReader


def filled(path: Path) -> bytes:
    """Make an image with data at its start, in its middle and at its end."""
    with path.open("wb") as file:
        for at in (0, 4 * MIB, SIZE - 8192):
            file.seek(at)
            file.write(pattern(8192, at))
        file.truncate(SIZE)
    return path.read_bytes()


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_the_disk_holds_at_the_start_is_recorded(tmp_path: Path, driver: str) -> None:
    need("qemu-img")
    data = filled(tmp_path / "t.raw")
    peer(
        "qemu-img", "convert", "-f", "raw", "-O", driver, "t.raw", f"t.test.{driver}", cwd=tmp_path
    )
    record(tmp_path, driver, *qemu_io("write -P 1 64k 512"))
    opened, ops = read_trace(tmp_path / "t.trace")
    assert opened.header.start_image == "recorded"
    start = [op for op in ops if op.kind == Kind.START]
    assert start == ops[: len(start)]
    assert {(op.connection, op.submitted, op.completed) for op in start} == {(0, 0, 0)}
    held = bytearray(SIZE)
    with PayloadReader(tmp_path / "t.payloads", opened.header.id) as payloads:
        for op in start:
            held[op.offset : op.end] = payloads.read(op.payload, op.length)
    assert bytes(held) == data
    assert rebuild(tmp_path / "t.trace") == (tmp_path / "t.raw").read_bytes()


def test_zeroes_at_the_start_are_not_recorded(tmp_path: Path) -> None:
    for name in ("t.raw", "t.test.raw"):
        (tmp_path / name).write_bytes(bytes(3 * MIB) + b"x" * MIB)
    record(tmp_path, "raw", *qemu_io("read 0 512"), options=["--size", 4 * MIB])
    start = [op for op in read_trace(tmp_path / "t.trace")[1] if op.kind == Kind.START]
    assert [(op.offset, op.length) for op in start] == [(3 * MIB, MIB)]


def test_images_by_name(tmp_path: Path) -> None:
    record(
        tmp_path,
        "raw",
        *qemu_io("write -P 1 0 512"),
        options=["--raw", "a.img", "--image", "b.img"],
    )
    assert (tmp_path / "a.img").read_bytes() == (tmp_path / "b.img").read_bytes()
    assert not (tmp_path / "t.raw").exists()


def test_a_recording_can_go_on_where_another_ended(tmp_path: Path) -> None:
    """Even after trims, which the two sides may have done in different ways."""
    record(tmp_path, "qcow2", *qemu_io("write -P 1 0 1M", "discard 0 512", "discard 70k 200k"))
    options = ["--force"]
    record(tmp_path, "qcow2", *qemu_io("read -P 1 512 1k", "write -P 2 0 4k"), options=options)
    assert rebuild(tmp_path / "t.trace") == (tmp_path / "t.raw").read_bytes()


def test_a_driver_that_names_a_backing_file_gets_a_copy_of_the_raw_image(tmp_path: Path) -> None:
    data = filled(tmp_path / "t.raw")
    driver = str(write_overlay(tmp_path))
    record(tmp_path, driver, *qemu_io("write -P 1 0 4k"))
    assert (tmp_path / "t.base.raw").read_bytes() == data
    assert rebuild(tmp_path / "t.trace") == (tmp_path / "t.raw").read_bytes() != data
    # the image and its backing file are there now, and are used as they are
    record(tmp_path, driver, *qemu_io("read -P 1 0 4k"), options=["--force"])
    assert (tmp_path / "t.base.raw").read_bytes() == data


def test_a_backing_file_goes_with_a_recording_that_does_not_start(tmp_path: Path) -> None:
    driver = write_overlay(tmp_path)
    options = ("--driver", driver, "--size", "1M", "--", "/nowhere/guest")
    trace("record", "t.trace", *options, cwd=tmp_path, expect=200)
    assert entries(tmp_path) == ["overlay.toml", "t.test.img.map"]
