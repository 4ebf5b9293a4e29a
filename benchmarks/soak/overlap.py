"""Overlapping ops, in flight together, must not show a difference that is none."""

import argparse
import random
import tempfile
from pathlib import Path

from benchmarks.peers import blkbox, peak_memory
from benchmarks.soak.guest import guest
from tracer.trace.file import Trace


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this check."""
    parser.add_argument("--ops", type=int, default=1_000_000)
    parser.add_argument("--driver", default="qcow2")


def run(options: argparse.Namespace) -> None:
    """Run the check."""
    overlap(options.ops, options.driver)


def overlap(count: int, driver: str) -> None:
    """Send overlapping ops. The recording must be clean. Print the recorder's peak memory half-way
    and at the end.
    """
    size = 1 << 20
    with tempfile.TemporaryDirectory(prefix="soak-", dir="/var/tmp") as folder:
        trace = Path(folder) / "blkbox.trace"
        memory = []
        options = ("--driver", driver, "--payloads", "hash")
        with blkbox(Path(folder), str(size), *options) as (socket, pid):
            for half in (0, 1):
                want = count // 2
                ok = guest(
                    socket, size, random.Random(half), lambda sent, want=want: sent < want, []
                )
                assert ok == want, f"{want - ok} ops failed"
                memory.append(peak_memory(pid))
        with Trace(trace) as recorded:
            end = recorded.end
        assert end is not None
        assert (end.verdict, end.mismatches) == ("clean", 0), end
        print(f"overlap: {count:,} ops on {driver}, no difference; peak memory "
              f"{memory[0] >> 20} MiB half-way, {memory[1] >> 20} MiB at the end")  # fmt: skip
