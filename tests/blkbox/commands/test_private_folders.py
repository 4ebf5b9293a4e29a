"""What SIGKILL leaves in /tmp and in TMPDIR, and the next run that removes it."""

import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.kit.command import recording, trace
from tests.kit.drivers import NBDKIT, toml
from tests.kit.faulty.workload import WORKLOAD, make_trace
from tests.kit.peers import background, need
from tests.kit.system import entries, wait_until


def sockets(folder: Path) -> list[Path]:
    """The private sockets of nbdkits that serve an image below ``folder``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            words = path.read_text(errors="replace").split("\0")
            if "nbdkit" in words[0] and any(word.startswith(f"{folder}/") for word in words):
                found.append(Path(words[2].removeprefix("--unix=")))
    return found


@pytest.mark.parametrize("verb", ["record", "replay", "serve"])
def test_the_next_run_removes_what_a_killed_recording_left(
    tmp_path: Path, runtime: Path, verb: str
) -> None:
    make_trace(tmp_path / "w.trace", WORKLOAD)
    with recording("t.trace", "--driver", "raw", "--size", "1M", cwd=tmp_path) as (process, uri):
        process.send_signal(signal.SIGKILL)
        process.wait()
    left = Path(uri.partition("socket=")[2]).parent
    assert left.is_dir()
    words = {
        "record": ["record", "u.trace", "--driver", "raw", "--size", "1M", "--", "true"],
        "replay": ["replay", "w.trace", "--driver", "raw"],
        "serve": ["serve", "w.trace", "--", "true"],
    }
    trace(*words[verb], cwd=tmp_path, expect=(0, 125))  # a recording without an op is undecidable
    assert not left.exists()


def test_the_images_of_a_killed_replay_go_and_those_to_keep_stay(
    tmp_path: Path, runtime: Path
) -> None:
    need("nbdkit")
    make_trace(tmp_path / "w.trace", WORKLOAD)
    driver = toml(
        tmp_path,
        create=["truncate", "-s", "{size}", "{image}"],
        serve=[*NBDKIT, "--filter=delay", "file", "{image}", "wdelay=60"],
    )
    place = runtime.parent  # TMPDIR
    argv = [sys.executable, "-m", "blkbox", "replay", "w.trace", "--driver", driver]
    with background(*argv, cwd=tmp_path) as process:
        wait_until(lambda: sockets(place))
        [socket] = sockets(place)
        trace("replay", "w.trace", "--driver", "raw", "--no-plot", cwd=tmp_path)
        assert list(place.glob("blkbox-replay-*/*/reference.raw"))  # its owner lives
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert list(place.glob("blkbox-replay-*"))
    wait_until(lambda: not socket.exists())  # the guard removes the driver's folder
    with background(*argv, "--keep", "kept", cwd=tmp_path) as process:
        wait_until(lambda: list(tmp_path.glob("kept/*/reference.raw")))
        process.send_signal(signal.SIGKILL)
        process.wait()
    trace("replay", "w.trace", "--driver", "raw", "--no-plot", cwd=tmp_path)
    assert list(tmp_path.glob("kept/*/reference.raw"))
    assert [name for name in entries(place) if name.startswith("blkbox-")] == []
