"""``trace minimize``: on real drivers, from the trace to the script."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import blkbox
from tests.kit.command import trace
from tests.kit.faulty.defects import DEFECTS
from tests.kit.faulty.workload import WORKLOADS, make_trace, write_driver
from tests.kit.peers import PEER_ENV, need, need_fuse
from tests.kit.system import PATIENCE, entries
from tests.kit.traces import read_trace
from tests.test_real_bugs import OVERLAPPING, PREALLOCATED_ZERO, RUNS, record
from tracer.op import Kind
from tracer.trace.file import Trace
from tracer.verdict import VerdictKind


def prepared(folder: Path, defect: str, form: str = "server") -> str:
    """Make w.trace, a defect's workload, and the defective driver; return the driver's file."""
    requests, together = WORKLOADS[DEFECTS[defect].workload if defect in DEFECTS else "main"]
    make_trace(folder / "w.trace", requests, together=together)
    return write_driver(folder, defect, form).name


def minimize(folder: Path, *argv: object, expect: int = 1) -> dict[str, Any]:
    """Run it to its end; return its JSON."""
    done = trace("minimize", "w.trace", *argv, "--json", cwd=folder, expect=expect)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.slow
@pytest.mark.parametrize(
    ("defect", "most", "words"),
    [
        ("write-split", 2, "torn"),
        ("crash-on-flush", 2, "crash"),
        ("check-only", 2, "check"),
        ("lost-on-close", 3, "lost-write"),  # of a single write it would be a disk in memory
        ("write-lost-beside-write", 3, "lost-write"),
    ],
)
def test_a_defect(tmp_path: Path, defect: str, most: int, words: str) -> None:
    driver = prepared(tmp_path, defect)
    result = minimize(tmp_path, "--driver", driver, "--script", "bug.py")
    assert result["ops"] <= most
    assert words in result["fault"]
    assert result["complete"]
    assert result["shown"] == result["shown_runs"] == 10
    assert result["passes"] > 0
    # the trace stands by itself, and shows the same
    replayed = trace("replay", "w.min.trace", "--driver", driver, "--json", "--no-plot",
                     cwd=tmp_path, expect=1)  # fmt: skip
    assert json.loads(replayed.stdout)["verdict"] == result["verdict"]
    trace("verify", "w.min.trace", cwd=tmp_path)
    trace("replay", "w.min.trace", "--driver", "raw", "--no-plot", cwd=tmp_path)
    # so does the script
    (script,) = result["scripts"]
    assert script["runs"] > 0, script["why_not"]
    assert script["shown"] == script["runs"]
    assert (tmp_path / "bug.py").stat().st_mode & stat.S_IXUSR
    assert subprocess.run(
        ["python3", "bug.py"], cwd=tmp_path, env=PEER_ENV, check=False, timeout=PATIENCE,
        capture_output=True,
    ).returncode == 1  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("groups", "most"), [(OVERLAPPING, 5), (PREALLOCATED_ZERO, 4)], ids=["overlap", "disjoint"]
)
def test_a_race_in_qcow2_as_a_script_for_qemu_io(tmp_path: Path, groups: Any, most: int) -> None:
    need("qemu-nbd", "qemu-img", "qemu-io")
    record(tmp_path, groups)
    (tmp_path / "r.trace").rename(tmp_path / "w.trace")
    (tmp_path / "r.payloads").rename(tmp_path / "w.payloads")
    result = minimize(
        tmp_path, "--driver", "qcow2", "--runs", 2 * RUNS, "--time", "5m", "--script", "bug.sh"
    )
    assert result["ops"] <= most
    assert "data" in result["fault"]
    assert result["small_verdict"] is None
    ops = sorted(read_trace(tmp_path / "w.min.trace")[1], key=lambda op: op.seq)
    assert any(a.completed > b.submitted for a, b in pairwise(ops))
    (script,) = result["scripts"]
    assert script["shown"] >= script["runs"] / 2 > 0
    text = (tmp_path / "bug.sh").read_text()
    assert "aio_write" in text
    assert "qemu-nbd" in text.partition("set -u")[0]
    assert str(tmp_path) not in text


def test_the_page(tmp_path: Path) -> None:
    driver = prepared(tmp_path, "write-split")
    page = trace("minimize", "w.trace", "--driver", driver, cwd=tmp_path, expect=1).stdout
    assert "left:     28 ops -> 1 op, on a disk of 68 KiB\n" in page
    assert "#0 write 8 KiB at 60 KiB of 0x01\n" in page
    assert "shows in: 10 of 10 runs\n" in page
    with Trace(tmp_path / "w.trace") as whole, Trace(tmp_path / "w.min.trace") as small:
        assert small.header.minimized["trace"] == whole.header.id
        assert small.header.minimized["ops"] == 28


def test_a_good_driver_leaves_nothing(tmp_path: Path) -> None:
    prepared(tmp_path, "none")
    result = minimize(tmp_path, "--driver", "raw", "--script", "bug.py", expect=0)
    assert (result["verdict"], result["small"], result["scripts"]) == ("clean", None, [])
    assert entries(tmp_path) == ["none.toml", "w.payloads", "w.trace"]


def test_a_driver_that_does_not_start(tmp_path: Path) -> None:
    prepared(tmp_path, "none")
    (tmp_path / "no.toml").write_text('serve = ["false", "{socket}"]')
    assert minimize(tmp_path, "--driver", "no.toml", expect=125)["verdict"] == "undecidable"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--script", "bug.txt"], "ends in .sh"),
        (["--script", "taken.py"], "taken.py exists"),
        (["-o", "taken.trace"], "taken.trace exists"),
        (["-o", "w.trace"], "w.trace"),
        (["--sure", "12"], "percentage"),
        (["--sure", "20%"], "--sure"),
        (["--jobs", "0"], "--jobs"),
        (["--time", "x"], "is not a time"),
        (["--start", "x"], "--start"),
    ],
)
def test_what_is_refused(tmp_path: Path, argv: list[str], said: str) -> None:
    prepared(tmp_path, "none")
    for name in ("taken.py", "taken.trace"):
        (tmp_path / name).touch()
    before = entries(tmp_path)
    done = trace("minimize", "w.trace", "--driver", "raw", *argv, cwd=tmp_path, expect=200)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert entries(tmp_path) == before


@pytest.mark.slow
def test_interrupted_it_keeps_the_best_and_goes_on(tmp_path: Path) -> None:
    driver = prepared(tmp_path, "write-stale")
    argv = [sys.executable, "-m", "blkbox", "minimize", "w.trace", "--driver", driver, "--json"]
    with subprocess.Popen(
        argv, cwd=tmp_path, env=PEER_ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        over = time.monotonic() + PATIENCE
        while not (tmp_path / "w.min.trace").exists() and time.monotonic() < over:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=PATIENCE)
    if process.returncode != 1:  # it was not done already
        assert process.returncode == 130
        assert json.loads(out)["interrupted"] == "SIGINT"
    trace("verify", "w.min.trace", cwd=tmp_path)
    before = len(read_trace(tmp_path / "w.min.trace")[1])
    result = minimize(tmp_path, "--driver", driver)
    assert result["ops"] <= min(before, 4)
    assert result["ops_before"] == 11
    assert result["complete"]


def test_what_is_left_of_another_trace_is_not_replaced(tmp_path: Path) -> None:
    driver = prepared(tmp_path, "write-split")
    minimize(tmp_path, "--driver", driver)
    make_trace(tmp_path / "other.trace", [(Kind.WRITE, 0, 4096, 0)])
    done = trace("minimize", "other.trace", "--driver", driver, "-o", "w.min.trace", cwd=tmp_path,
                 expect=200)  # fmt: skip
    assert "w.min.trace exists" in done.stderr


def test_replay_can_do_it_in_one_go(tmp_path: Path) -> None:
    driver = prepared(tmp_path, "write-split")
    done = trace("replay", "w.trace", "--driver", driver, "--no-plot", "--minimize", cwd=tmp_path,
                 expect=1)  # fmt: skip
    assert "culprit:  #18 write" in done.stdout
    assert "left:     28 ops -> 1 op" in done.stdout
    assert {"w.min.trace", "w.min.payloads", "w.min.py"} <= set(entries(tmp_path))


def test_the_api(runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    driver = prepared(tmp_path, "first-write-lost")
    lines: list[str] = []
    made = blkbox.minimize("w.trace", driver=driver, out="small.trace", watch=lines.append)
    assert made.ops == 1
    assert made.small_verdict is not None
    assert made.small_verdict.verdict is VerdictKind.DAMAGED
    assert lines
    assert not os.path.exists("w.min.trace")


@pytest.mark.slow
@pytest.mark.parametrize("start", ["converted", "written"])
def test_a_disk_that_starts_with_data(tmp_path: Path, start: str) -> None:
    """Zeroes are ignored: that shows where the disk starts with data, and nowhere else."""
    kib = 1024
    requests = [
        *((Kind.START, at * kib, 64 * kib, 0) for at in (0, 128, 256, 512)),
        *((Kind.WRITE, at * kib, 4 * kib, 0) for at in range(640, 700, 4)),
        (Kind.READ, 0, 64 * kib, 0),
        (Kind.ZERO, 136 * kib, 8 * kib, 0),
        (Kind.FLUSH, 0, 0, 0),
    ]
    make_trace(tmp_path / "w.trace", requests)
    plugin = tmp_path / "plugin.py"
    plugin.write_text(IGNORES_ZEROES)
    (tmp_path / "d.toml").write_text(
        'create = ["truncate", "-s", "{size}", "{image}"]\n'
        'convert = ["cp", "{start}", "{image}"]\n'
        'serve = ["nbdkit", "-f", "-U", "{socket}", "python", "{here}/plugin.py", '
        '"path={image}"]\n'
    )
    need("nbdkit")
    result = minimize(tmp_path, "--driver", "d.toml", "--start", start, "--script", "bug.py")
    assert result["ops"] <= 2
    assert any("start" in step or "write" in step for step in result["steps"])
    (script,) = result["scripts"]
    assert script["shown"] == script["runs"] > 0, script


IGNORES_ZEROES = """
import os
API_VERSION = 2
def config(key, value):
    global path
    path = value
def open(readonly):
    return os.open(path, os.O_RDWR)
def get_size(disk):
    return os.fstat(disk).st_size
def pread(disk, buffer, offset, flags):
    buffer[:] = os.pread(disk, len(buffer), offset)
def pwrite(disk, buffer, offset, flags):
    os.pwrite(disk, bytes(buffer), offset)
def can_zero(disk):
    return True
def zero(disk, count, offset, flags):
    pass
def can_flush(disk):
    return True
def flush(disk, flags):
    pass
"""


@pytest.mark.slow
def test_what_only_a_power_cut_shows(tmp_path: Path) -> None:
    """qcow2 reuses the cluster that zeroes have freed before that is durable."""
    need("qemu-nbd", "qemu-img")
    kib = 1024
    requests = [
        *((Kind.WRITE, at * kib, 4 * kib, 0) for at in (1024, 1280, 1536)),
        (Kind.WRITE, 0, 64 * kib, 0),
        (Kind.FLUSH, 0, 0, 0),
        (Kind.READ, 0, 64 * kib, 0),
        (Kind.ZERO, 0, 64 * kib, 0),
        (Kind.WRITE, 512 * kib, 64 * kib, 0),
        (Kind.WRITE, 1792 * kib, 4 * kib, 0),
    ]
    make_trace(tmp_path / "w.trace", requests)
    result = minimize(tmp_path, "--driver", "qcow2", "--power", "--time", "40s")
    assert "other-sector" in result["fault"]
    assert result["ops"] <= 4
    assert result["shown"] > 0
    assert trace("powercut", "w.min.trace", "--driver", "qcow2", cwd=tmp_path, expect=1)
    refused = (
        "minimize",
        "w.trace",
        "--driver",
        "qcow2",
        "--power",
        "--script",
        "bug.sh",
        "--force",
    )
    assert "no script" in trace(*refused, cwd=tmp_path, expect=200).stderr


def test_a_driver_that_is_wrong_without_a_power_cut(tmp_path: Path) -> None:
    need("qemu-nbd", "qemu-img", "nbdkit")
    need_fuse()
    driver = prepared(tmp_path, "read-returns-wrong", "nbdkit")
    result = minimize(tmp_path, "--driver", driver, "--power", expect=125)
    assert result["small"] is None
    assert "without a power cut" in result["reason"]
    assert "without --power" in result["reason"]
