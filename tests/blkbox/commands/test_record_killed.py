"""``trace record`` killed with SIGKILL at any moment of its start: its driver dies too."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kit.peers import PEER_ENV, need
from tests.kit.system import wait_until

KILLS = 12


def drivers(image: Path) -> list[list[str]]:
    """The command lines of processes that serve an image."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_text(errors="replace").split("\0")
        except OSError:
            continue  # it has ended
        if str(image) in words and "--foreground" in words:
            found.append(words)
    return found


@pytest.mark.slow
def test_no_driver_outlives_its_recorder(tmp_path: Path) -> None:
    need("nbdkit")
    chance = random.Random(14)
    folders, seen = set(), 0
    for number in range(KILLS):
        image = tmp_path / f"{number}.img"
        driver = tmp_path / f"{number}.toml"
        driver.write_text(
            'create = ["truncate", "-s", "{size}", "{image}"]\n'
            'serve = ["nbdkit", "--foreground", "--unix", "{socket}", "file", "{image}"]\n'
        )
        argv = ["record", f"{number}.trace", "--driver", driver, "--size", "1M", "--image", image]
        with subprocess.Popen(
            [sys.executable, "-m", "blkbox", *map(str, argv)], cwd=tmp_path, env=PEER_ENV,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            deadline = time.monotonic() + 30
            while not (running := drivers(image)) and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(chance.random() * 0.05)
            process.send_signal(signal.SIGKILL)
        seen += bool(running)
        for words in running:
            folders.add(Path(words[words.index("--unix") + 1]).parent)
        wait_until(lambda image=image: not drivers(image))
    assert seen == KILLS
    assert len(folders) == KILLS
    wait_until(lambda: not any(folder.exists() for folder in folders))
