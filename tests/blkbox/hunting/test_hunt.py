"""``trace hunt``: what it finds, what it leaves, and how it goes on."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import blkbox
from tests.kit.builds import killing
from tests.kit.command import trace
from tests.kit.drivers import toml
from tests.kit.peers import need
from tracer.errors import Exit

PLUGIN = """
import nbdkit, os

API_VERSION = 2

def config(key, value):
    global disk
    disk = os.open(value, os.O_RDWR)

def thread_model():
    return nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS

def open(readonly):
    return 1

def get_size(h):
    return os.fstat(disk).st_size

def pread(h, buf, offset, flags):
    buf[:] = os.pread(disk, len(buf), offset)

def pwrite(h, buf, offset, flags):
    if offset:
        os.pwrite(disk, buf, offset)
"""


def loses_writes(folder: Path) -> str:
    """A driver that answers a write at the start of the disk and does not do it."""
    plugin = folder / "plugin.py"
    plugin.write_text(PLUGIN)
    return toml(
        folder, create=["truncate", "-s", "{size}", "{image}"],
        serve=["nbdkit", "-f", "-U", "{socket}", "python", str(plugin), "image={image}"],
    )  # fmt: skip


def found(folder: Path) -> dict[str, object]:
    state: dict[str, object] = json.loads((folder / "hunt.json").read_text())
    return state


def test_a_hunt_on_a_good_driver_finds_nothing_and_goes_on(tmp_path: Path) -> None:
    for _ in range(2):
        done = trace("hunt", "--driver", "raw", "--time", "3s", "-o", "h", "--ops", 100,
                     "--jobs", 2, cwd=tmp_path)  # fmt: skip
        assert "nothing was found" in done.stdout
    state = found(tmp_path / "h")
    targets = state["targets"]
    assert isinstance(targets, dict)
    assert targets["raw"]["seeds"] == state["next"]
    assert targets["raw"]["ops"] == 100 * state["next"]
    assert not (tmp_path / "h" / "faults").exists()


def test_a_fault_is_found_once_and_kept_with_all_that_shows_it(tmp_path: Path) -> None:
    need("nbdkit")
    name = loses_writes(tmp_path)
    done = trace("hunt", "--driver", name, "--time", "8s", "-o", "h", "--ops", 60, "--profile",
                 "serial", "--json", cwd=tmp_path, expect=Exit.DIFFERENT)  # fmt: skip
    state = json.loads(done.stdout)
    keys = [fault["key"] for fault in state["faults"]]
    assert keys
    assert len(set(keys)) == len(keys)
    first = state["faults"][0]
    kept = tmp_path / "h" / first["folder"]
    assert {path.name for path in kept.iterdir()} == {
        "fault.trace", "verdict.json", "report.html",
        "small.trace", "small.payloads", "small.txt", "bug.py",
    }  # fmt: skip
    verdict = blkbox.load_verdict(kept / "verdict.json")
    assert verdict.verdict == "damaged"
    assert verdict.culprit is not None
    assert (verdict.culprit.kind, verdict.culprit.offset) == ("write", 0)
    assert first["culprit"] == f"#{verdict.culprit.seq} write"
    again = trace("replay", str(kept / "fault.trace"), "--driver", name, "--no-plot",
                  cwd=tmp_path, expect=Exit.DIFFERENT)  # fmt: skip
    assert "damaged" in again.stdout
    # another hunt begins with what this one has found
    trace("hunt", "--driver", name, "--time", "1s", "-o", "again", "--ops", 60, "--corpus", "h",
          cwd=tmp_path, expect=Exit.DIFFERENT)  # fmt: skip


def test_a_signal_ends_a_hunt_and_nothing_stays_behind(tmp_path: Path) -> None:
    hunting = subprocess.Popen(
        [sys.executable, "-m", "blkbox", "hunt", "--driver", "raw", "--time", "1h", "-o", "h",
         "--ops", "100"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    state = tmp_path / "h" / "hunt.json"
    while not (state.exists() and '"seeds"' in state.read_text()):
        assert hunting.poll() is None
    hunting.send_signal(signal.SIGINT)
    out, err = hunting.communicate()
    assert hunting.returncode == Exit.INTERRUPTED
    assert "nothing was found" in out
    assert err == "trace: interrupted by SIGINT: what was found is kept\n"
    assert found(tmp_path / "h")["interrupted"] == "SIGINT"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--driver", "raw", "--jobs", "0"], "--jobs 0: give a number from 1 on"),
        (["--driver", "raw", "--ops", "0"], "--ops 0"),
        (["--driver", "nbd://localhost"], "needs a driver that works on an image of ours"),
        (["--driver", "raw", "--profile", "none"], "--profile 'none' is not known"),
        (["--driver", "raw", "-o", "full"], "full is not empty and has no hunt.json"),
        (["--driver", "raw", "--corpus", "full"], "there is no faults/*/fault.trace"),
        (["--driver", "nothing"], "unknown driver 'nothing'"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused_in_one_line(
    tmp_path: Path, arguments: list[str], why: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    done = trace("hunt", *arguments, cwd=tmp_path, expect=Exit.USAGE)
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_hunt_of_other_options_is_not_mixed_in(tmp_path: Path) -> None:
    trace("hunt", "--driver", "raw", "--time", "1s", "-o", "h", "--ops", 50, cwd=tmp_path)
    done = trace("hunt", "--driver", "raw", "--time", "1s", "-o", "h", "--ops", 51, cwd=tmp_path,
                 expect=Exit.USAGE)  # fmt: skip
    assert "h has a hunt with --ops 50" in done.stderr


def test_a_trial_whose_process_dies_is_no_end_of_the_hunt(tmp_path: Path) -> None:
    need("nbdkit")
    name = killing(tmp_path)
    done = trace("hunt", "--driver", name, "--driver", "raw", "--time", "4s", "-o", "h", "--ops",
                 50, "--jobs", 1, cwd=tmp_path)  # fmt: skip
    assert "died: killed by SIGKILL" in done.stdout
    targets = found(tmp_path / "h")["targets"]
    assert isinstance(targets, dict)
    assert targets[name]["seeds"] == targets[name]["undecidable"] > 0
    assert targets["raw"]["undecidable"] == 0
    assert targets["raw"]["seeds"] > 0
