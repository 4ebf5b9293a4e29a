"""The demo: record a guest's install, replay it on a good build and on a defective build.

The guest is a recording of a real Debian install (demo/README.md), played over NBD against ``trace
record``. Everything else is real. Run it with ``make demo``.
"""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
OUT = HERE / "out"
TRACE = [sys.executable, "-m", "blkbox"]


def run(title: str, arguments: list[str | Path], expected: int) -> str:
    """Run ``trace``, print the command and its output, and return its stdout.

    Exits if the exit code is not ``expected``.
    """
    command = [str(argument) for argument in arguments]
    print(f"\n\033[1m{title}\033[0m" if sys.stdout.isatty() else f"\n{title}")
    print("$ trace " + shlex.join(command), flush=True)
    done = subprocess.run([*TRACE, *command], stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="", flush=True)
    if done.returncode != expected:
        sys.exit(f"demo: exit code {done.returncode}, expected {expected}")
    return done.stdout


def main() -> None:
    """Run the demo. Its files are in demo/out afterwards."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    guest = [sys.executable, HERE / "guest.py", HERE / "install.trace"]
    recorded, picture = OUT / "guest.trace", OUT / "damage.png"
    run(
        "1. Record: a Debian install, on a raw image and on a driver's",
        ["record", recorded, "--driver", "raw", "--size", "2G", "--payloads", "hash", "--", *guest],
        0,
    )
    good = "qcow2" if shutil.which("qemu-nbd") and shutil.which("qemu-img") else "raw"
    run("2. Replay on a good build: clean", ["replay", recorded, "--driver", good], 0)
    printed = run(
        "3. Replay on a build with a defect: damaged, and by which request",
        ["replay", recorded, "--driver", HERE / "defective.toml", "--plot", picture],
        1,
    )
    culprit = re.search(r"^culprit:  #(\d+) ", printed, re.MULTILINE)
    if culprit is None:
        sys.exit("demo: the replay named no culprit")
    seq = int(culprit[1])
    run(
        "4. Look at the culprit and its neighbours",
        ["show", recorded, "--ops", "--from", str(max(seq - 2, 0)), "--to", str(seq + 2)],
        0,
    )
    for image in OUT.glob("*.raw"):
        image.unlink()
    print(f"\ntrace: {recorded}\nplot:  {picture}")


if __name__ == "__main__":
    main()
