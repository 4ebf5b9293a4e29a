"""Compare what a recording and a replay cost on small and on large disks, with the same ops.

    python -m benchmarks.disk_sizes [--sizes 64M,16G,15T] [--drivers raw,qcow2] [--ops N]

*one write* is a single write of 4 KiB by qemu-io. *ops* are random writes, reads, write zeroes,
trims and flushes, spread over 32 MiB in the middle of the disk: the same for every size, since a
driver may itself take longer the more of its disk it touches. Each time is of a whole command,
from the start of Python to its exit.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tracer.op import Kind, Op
from tracer.text import parse_size
from tracer.trace.header import Header
from tracer.trace.output import TraceOutput
from tracer.trace.records import End

SPREAD = 32 << 20
LENGTHS = (4096, 4096, 16384, 65536, 262144)
KINDS = (Kind.WRITE,) * 11 + (Kind.READ,) * 5 + (Kind.ZERO,) * 2 + (Kind.TRIM,) + (Kind.FLUSH,)


def make(path: Path, size: int, count: int) -> None:
    """Write a trace of random ops."""
    chance = random.Random(0)
    first = size // 2 // SPREAD * SPREAD
    with TraceOutput(path, Header(size=size, payloads="hash")) as output:
        for seq in range(count):
            kind, length = chance.choice(KINDS), chance.choice(LENGTHS)
            offset = first + chance.randrange((SPREAD - length) // 4096) * 4096
            if kind is Kind.FLUSH:
                offset = length = 0
            op = Op(seq, int(kind), 0, offset, length, submitted=seq * 100)
            op.completed = op.submitted + 50
            if kind is Kind.WRITE:
                op.digest = chance.randbytes(16)
            output.op(op)
        output.close(End(count, 0, count * 100, "clean"))


def timed(folder: Path, *arguments: str) -> float:
    """Return the seconds that a command takes, which must end clean."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "blkbox", *arguments],
        cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - started


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="64M,16G,15T")
    parser.add_argument("--drivers", default="raw,qcow2")
    parser.add_argument("--ops", type=int, default=1000)
    options = parser.parse_args()
    guest = ("--", "qemu-io", "-f", "raw", "-c", "write -P 1 0 4k", "{nbd}")
    print("| driver | disk | one write: record, s | replay, s | ops: replay, s |")
    print("|---|---|---:|---:|---:|")
    for driver in options.drivers.split(","):
        for size in options.sizes.split(","):
            with tempfile.TemporaryDirectory(prefix="blkbox-bench-") as name:
                folder = Path(name)
                make(folder / "ops.trace", parse_size(size), options.ops)
                on = ("--driver", driver)
                times = [
                    timed(folder, "record", "one.trace", *on, "--size", size, *guest),
                    timed(folder, "replay", "one.trace", *on),
                    timed(folder, "replay", "ops.trace", *on),
                ]
            cells = " | ".join(f"{seconds:.2f}" for seconds in times)
            print(f"| {driver} | {size} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
