"""``trace replay --start``: disks that start with data, on real drivers."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import blkbox
from tests.kit.command import trace
from tests.kit.data import MIB, pattern
from tests.kit.drivers import NBDKIT, toml
from tests.kit.faulty.workload import KIB, WORKLOAD, Request, make_trace, write_driver
from tests.kit.guests import qemu_io
from tests.kit.overlay import write_overlay
from tests.kit.peers import need, peer
from tests.kit.system import entries
from tests.kit.traces import read_trace
from tracer.driver.spec import FORMATS
from tracer.op import Kind

ODD = 5 * MIB + 37 * 512
"""Bytes of a disk that is no multiple of any cluster's size."""

STARTS: list[Request] = [(Kind.START, at, 64 * KIB, 0) for at in (0, 2 * MIB, 3 * MIB)]

GUEST: list[Request] = [
    (Kind.WRITE, 4 * KIB, 4 * KIB, 0),
    (Kind.ZERO, 2 * MIB, 64 * KIB, 0),
    (Kind.TRIM, 3 * MIB, 64 * KIB, 0),
    (Kind.READ, 0, 1 * MIB, 0),
]


def replayed(folder: Path, driver: object, *options: object, expect: int = 0) -> dict[str, Any]:
    arguments = ("replay", "t.trace", "--driver", driver, "--json", "--no-plot", *options)
    found: dict[str, Any] = json.loads(trace(*arguments, cwd=folder, expect=expect).stdout)
    return found


def odd_trace(folder: Path, payloads: str = "full") -> None:
    last = (Kind.START, ODD - 512, 512, 0)
    make_trace(folder / "t.trace", [*STARTS, last, *GUEST], size=ODD, payloads=payloads)


# ---------------------------------------------------------------- QEMU's formats


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_converts(tmp_path: Path, name: str) -> None:
    if name != "raw":
        need("qemu-nbd", "qemu-img")
    odd_trace(tmp_path)
    verdict = replayed(tmp_path, name)
    assert (verdict["verdict"], verdict["start"]) == ("clean", "converted")
    assert (verdict["ops"], verdict["replayed_ops"]) == (4, 4)
    assert "--start" not in verdict["command"]


@pytest.mark.parametrize("name", [name for name, form in FORMATS.items() if form.backing])
@pytest.mark.parametrize("payloads", ["full", "hash"])
def test_formats_with_a_backing_file(tmp_path: Path, name: str, payloads: str) -> None:
    need("qemu-nbd", "qemu-img")
    odd_trace(tmp_path, payloads)
    # a relative folder: the image must find its backing file all the same
    verdict = replayed(tmp_path, name, "--start", "backing", "--keep", "kept")
    assert (verdict["verdict"], verdict["start"], verdict["ops"]) == ("clean", "backing", 4)
    assert verdict["command"][-2:] == ["--start", "backing"]
    shown = peer("qemu-img", "info", "--output=json", f"kept/full/test.{name}", cwd=tmp_path)
    base = tmp_path / "kept" / ("base.vmdk" if name == "vmdk" else "base.raw")
    assert json.loads(shown)["full-backing-filename"] == str(base)


@pytest.mark.parametrize("name", ["raw", "qcow2"])
def test_written_start_data_counts_as_ops(tmp_path: Path, name: str) -> None:
    need("qemu-nbd", "qemu-img")
    odd_trace(tmp_path)
    verdict = replayed(tmp_path, name, "--start", "written")
    assert (verdict["verdict"], verdict["start"]) == ("clean", "written")
    assert (verdict["ops"], verdict["replayed_ops"]) == (8, 8)


def test_a_disk_that_starts_blank_has_no_start_data(tmp_path: Path) -> None:
    make_trace(tmp_path / "t.trace", GUEST, size=ODD)
    verdict = replayed(tmp_path, "raw", "--keep", "kept")
    assert (verdict["verdict"], verdict["start"], verdict["ops"]) == ("clean", None, 4)
    assert entries(tmp_path / "kept") == ["full"]


@pytest.mark.parametrize("start", ["backing", "converted", "written"])
def test_the_story_says_where_the_start_data_was(tmp_path: Path, start: str) -> None:
    need("qemu-nbd", "qemu-img")
    odd_trace(tmp_path)
    done = trace("replay", "t.trace", "--driver", "qcow2", "--start", start, cwd=tmp_path)
    where = {"backing": "in the backing file", "converted": "converted", "written": "written"}
    assert f"; start data {where[start]}" in done.stdout


@pytest.mark.slow
def test_another_build_reads_start_data_too(tmp_path: Path) -> None:
    need("qemu-nbd", "qemu-img")
    odd_trace(tmp_path)
    for start in ("backing", "converted"):
        verdict = replayed(tmp_path, "qcow2", "--reopen-with", "qcow2", "--start", start)
        assert (verdict["verdict"], verdict["reader"]) == ("clean", "qcow2")
    done = trace(
        "replay", "t.trace", "--driver", "qcow2", "--reopen-with", "raw", "--start", "backing",
        cwd=tmp_path, expect=125,
    )  # fmt: skip
    assert "raw serves" in done.stderr


def test_up_to_an_op_of_the_start_data_nothing_is_played(tmp_path: Path) -> None:
    odd_trace(tmp_path)
    verdict = replayed(tmp_path, "raw", "--upto", "1", expect=125)
    assert (verdict["ops"], verdict["replayed_ops"], verdict["start"]) == (0, 0, "converted")
    assert "nothing was tested" in verdict["reason"]


def test_a_part_of_a_trace_begins_with_its_start_data(tmp_path: Path) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    trace("cut", "w.trace", "--from", "17", "-o", "t.trace", cwd=tmp_path)
    verdict = replayed(tmp_path, "raw")
    assert (verdict["verdict"], verdict["start"], verdict["ops"]) == ("clean", "converted", 11)


# ---------------------------------------------------------------- drivers from .toml files


def test_a_command_that_converts(tmp_path: Path) -> None:
    need("nbdkit")
    odd_trace(tmp_path)
    serve = [*NBDKIT, "--foreground", "file", "{image}"]
    assert replayed(tmp_path, toml(tmp_path, serve=serve))["start"] == "written"
    driver = toml(tmp_path, convert=["cp", "{start}", "{image}"], serve=serve)
    verdict = replayed(tmp_path, driver)
    assert (verdict["verdict"], verdict["start"], verdict["ops"]) == ("clean", "converted", 4)


@pytest.mark.parametrize("start", ["backing", "written"])
def test_a_cow_filter_keeps_nothing_but_its_base(tmp_path: Path, start: str) -> None:
    need("nbdkit")
    odd_trace(tmp_path)
    serve = [*NBDKIT, "--foreground", "--filter=cow", "file", "{base}"]
    verdict = replayed(tmp_path, toml(tmp_path, serve=serve), "--start", start)
    assert (verdict["verdict"], verdict["start"]) == ("clean", start)
    assert verdict["volatile"]


@pytest.mark.slow
def test_a_driver_that_writes_to_its_backing_file_has_failed(tmp_path: Path) -> None:
    """Bisected: a bad step must not spoil the backing file of the next."""
    harmless: list[Request] = [(Kind.TRIM, at * 4 * KIB, 4 * KIB, 0) for at in range(40)]
    requests = [*STARTS, *harmless[:25], (Kind.WRITE, 0, 4 * KIB, 0), *harmless[25:]]
    make_trace(tmp_path / "t.trace", requests)
    driver = write_overlay(tmp_path, "base")
    verdict = replayed(tmp_path, driver, "--start", "backing", expect=1)
    assert verdict["reason"] == "the check failed, the driver wrote to its backing file"
    assert (verdict["culprit"]["seq"], verdict["confirmed"]) == (len(STARTS) + 25, True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["vdi", "--start", "backing"], "vdi takes no backing file: qcow2, qed, vmdk do"),
        (["raw", "--start", "backing"], "raw takes no backing file"),
        (["mine.toml", "--start", "converted"], "a .toml file with 'convert'"),
        (["raw", "--start", "x"], "'x': give one of auto, backing, converted, written"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(
    tmp_path: Path, options: list[str], says: str
) -> None:
    need("qemu-nbd", "qemu-img")
    odd_trace(tmp_path)
    toml(tmp_path, serve=["server", "{socket}"])
    done = trace("replay", "t.trace", "--driver", *options, cwd=tmp_path, expect=200)
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


# ---------------------------------------------------------------- conversions that fail


def test_a_failed_conversion_is_undecidable(tmp_path: Path) -> None:
    odd_trace(tmp_path)
    convert = ["sh", "-c", "echo no such luck; exit 3", "{start}"]
    driver = toml(tmp_path, convert=convert, serve=["server", "{socket}"])
    done = trace("replay", "t.trace", "--driver", driver, "--json", cwd=tmp_path, expect=125)
    assert "creating the image failed: exit status 3" in done.stderr
    assert "no such luck" in done.stderr
    assert json.loads(done.stdout)["verdict"] == "undecidable"


@pytest.fixture
def small() -> Iterator[Path]:
    """A file system of 10 MiB."""
    # not in tmp_path: where the tests are killed, what stays mounted is in no later run's way
    with tempfile.TemporaryDirectory(prefix="blkbox-test-") as name:
        command = ["mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", name]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("a small file system cannot be mounted here: that takes root")
        yield Path(name)
        subprocess.run(["umount", "--lazy", name], check=True)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (4, "is full"),  # the start image and the reference fit, the test image does not
        (8, "cannot copy"),
        (16, "cannot write"),
    ],
)
def test_a_full_disk_is_not_the_drivers_fault(
    tmp_path: Path, small: Path, data: int, says: str
) -> None:
    need("qemu-nbd", "qemu-img")
    requests: list[Request] = [(Kind.START, at * MIB, MIB, 0) for at in range(data)]
    make_trace(tmp_path / "t.trace", [*requests, *GUEST], size=16 * MIB)
    arguments = ("replay", "t.trace", "--driver", "qcow2", "--keep", small / "kept")
    done = trace(*arguments, cwd=tmp_path, expect=202)
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


# ---------------------------------------------------------------- what is found


def recorded_damage(folder: Path) -> Path:
    """Record a guest on a disk with data, on the driver that drops write zeroes over its base."""
    (folder / "t.raw").write_bytes(bytes(MIB) + pattern(MIB) + bytes(2 * MIB))
    driver = write_overlay(folder, "zero")
    guest = qemu_io("write -P 7 4k 4k", "write -z 1M 64k", "write -P 3 3M 4k", "read 1M 1M")
    arguments = ("record", "t.trace", "--driver", driver, "--raw", "t.raw", "--", *guest)
    assert "damaged" in trace(*arguments, cwd=folder, expect=1).stdout
    return driver


def test_a_defect_of_backing_files_is_found_on_a_backing_file(tmp_path: Path) -> None:
    driver = recorded_damage(tmp_path)
    zero = next(op for op in read_trace(tmp_path / "t.trace")[1] if op.kind == Kind.ZERO)
    verdict = replayed(tmp_path, driver, "--start", "backing", expect=1)
    assert (verdict["verdict"], verdict["start"], verdict["hint"]) == ("damaged", "backing", None)
    assert (verdict["culprit"]["seq"], verdict["confirmed"]) == (zero.seq, True)
    assert [(one["sector"], one["sectors"]) for one in verdict["damage"]] == [(2048, 128)]
    assert verdict["damage"][0]["class"] == "lost-write"
    assert verdict["damage"][0]["source"]["kind"] == "start"


@pytest.mark.slow
def test_a_clean_replay_of_a_bad_recording_says_what_to_try(tmp_path: Path) -> None:
    driver = recorded_damage(tmp_path)
    done = trace("replay", "t.trace", "--driver", driver, cwd=tmp_path)
    assert "verdict:  clean (overlay)" in done.stdout
    hint = "the trace was recorded as damaged on overlay: try --start backing"
    assert f"hint:     {hint}\n" in done.stdout
    assert replayed(tmp_path, driver, "--start", "written")["hint"] == hint
    # on another driver, or up to an op, a clean replay surprises nobody
    good = write_overlay(tmp_path, name="good")
    assert replayed(tmp_path, good, "--start", "backing")["hint"] is None
    assert replayed(tmp_path, driver, "--upto", "3")["hint"] is None


@pytest.mark.slow
def test_a_snapshot_in_qcow2_records_and_replays(tmp_path: Path) -> None:
    need("qemu-nbd", "qemu-img")
    for name in ("t.raw", "snapshot.raw"):
        (tmp_path / name).write_bytes(bytes(MIB) + pattern(MIB) + bytes(2 * MIB))
    create = ("qemu-img", "create", "-q", "-f", "qcow2", "-b", "snapshot.raw", "-F", "raw")
    peer(*create, "top.qcow2", cwd=tmp_path)
    guest = qemu_io("write -P 7 4k 4k", "write -z 1M 64k", "read 1M 1M")
    options = ("--driver", "qcow2", "--raw", "t.raw", "--image", "top.qcow2")
    trace("record", "t.trace", *options, "--", *guest, cwd=tmp_path)
    for start in ("backing", "converted", "written"):
        verdict = replayed(tmp_path, "qcow2", "--start", start)
        assert (verdict["verdict"], verdict["start"]) == ("clean", start)
    verdict = blkbox.replay(tmp_path / "t.trace", driver="qcow2", start="backing")
    assert (verdict.verdict, verdict.start) == ("clean", "backing")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("defect", "culprit"),
    [("write-lost", 17), ("lost-on-close", 17), ("crash-on-flush", 16), ("check-only", 19)],
)
@pytest.mark.parametrize("start", ["converted", "written"])
def test_culprits_behind_start_data(tmp_path: Path, defect: str, culprit: int, start: str) -> None:
    """Watching, bisecting and suspecting count positions from the start data on."""
    starts: list[Request] = [(Kind.START, 2 * MIB + at * KIB, KIB, 0) for at in range(50)]
    make_trace(tmp_path / "t.trace", [*starts, *WORKLOAD])
    driver = write_driver(tmp_path, defect, "server")
    with driver.open("a") as file:
        file.write('convert = ["cp", "{start}", "{image}"]\n')
    verdict = replayed(tmp_path, driver, "--start", start, expect=1)
    assert (verdict["culprit"]["seq"], verdict["confirmed"]) == (50 + culprit, True)


@pytest.mark.slow
def test_a_fresh_image_that_fails_its_check_is_undecidable(tmp_path: Path) -> None:
    need("nbdkit")
    odd_trace(tmp_path)
    driver = toml(
        tmp_path,
        convert=["cp", "{start}", "{image}"],
        serve=[*NBDKIT, "--foreground", "file", "{image}"],
        check=["false"],
    )
    verdict = replayed(tmp_path, driver, expect=125)
    assert (verdict["verdict"], verdict["culprit"]) == ("undecidable", None)
    assert "before the first op" in verdict["reason"]
