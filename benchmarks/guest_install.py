"""Compare a real guest's install on ``trace record --driver qcow2`` with qemu-nbd alone.

    python -m benchmarks.guest_install [--rounds N] INSTALL_COMMAND...

The two take turns. In INSTALL_COMMAND, {nbd} becomes the disk's NBD URI. The command must exit with
0 when the guest is installed.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.peers import direct

SIZE = "2G"


def on_qemu_nbd(folder: Path, command: list[str]) -> float:
    """Return the seconds that the guest takes on qemu-nbd alone."""
    with direct(folder, SIZE) as (socket, _):
        uri = f"nbd+unix:///?socket={socket}"
        started = time.perf_counter()
        subprocess.run(
            [word.replace("{nbd}", uri) for word in command], check=True, stdout=subprocess.DEVNULL
        )
        return time.perf_counter() - started


def on_blkbox(folder: Path, command: list[str]) -> float:
    """Return the seconds that the guest takes on ``trace record``.

    As on qemu-nbd, the time is the guest's own. It excludes the comparison of the images after it.
    """
    times = folder / "times"
    timed = ["sh", "-c", 'date +%s.%N >"$0"; "$@"; status=$?; date +%s.%N >>"$0"; exit $status']
    trace = Path(sys.executable).with_name("trace")
    subprocess.run(
        [str(trace), "record", str(folder / "t.trace"), "--driver", "qcow2", "--size", SIZE, "--",
         *timed, str(times), *command],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    start, end = map(float, times.read_text().split())
    return end - start


def main() -> None:
    """Measure in turn. Print every figure and the ratio of the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"blkbox": [], "qemu-nbd": []}
    for round_ in range(options.rounds):
        turns = [("blkbox", on_blkbox), ("qemu-nbd", on_qemu_nbd)]
        for name, run in turns if round_ % 2 == 0 else reversed(turns):
            with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as folder:
                seconds[name].append(run(Path(folder), options.command))
            print(f"{name}: {seconds[name][-1]:.1f} s", flush=True)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"medians: blkbox {middle['blkbox']:.1f} s, qemu-nbd {middle['qemu-nbd']:.1f} s, ratio "
          f"{middle['blkbox'] / middle['qemu-nbd']:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
