"""A trace as a frame, against a plain msgpack loop and against blkparse and btt on as many events.

    python -m benchmarks.frames [--ops N] [--rounds N]

An event of ours is an op, from its submission to its completion; blktrace has one event for each of
these two. Each step runs in a process of its own, in turn; medians are printed, and peak memory.
The start of Python is not counted.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.long_trace import DEPTH, SIZE, make

# linux/blktrace_api.h: struct blk_io_trace, version 7
_EVENT = np.dtype(
    [
        ("magic", "u4"), ("sequence", "u4"), ("time", "u8"), ("sector", "u8"), ("bytes", "u4"),
        ("action", "u4"), ("pid", "u4"), ("device", "u4"), ("cpu", "u4"), ("error", "u2"),
        ("pdu_len", "u2"),
    ]
)  # fmt: skip
_MAGIC = 0x65617407
_WRITE, _QUEUE, _COMPLETE = (
    1 << bit + 16 for bit in (1, 4, 7)
)  # BLK_TC_*, in an action's upper half
_Q, _C = 1 | _QUEUE | _WRITE, 8 | _COMPLETE | _WRITE


def make_blktrace(path: Path, count: int) -> None:
    """What blktrace would have written of a guest such as ``long_trace.make``'s: so many events."""
    with path.open("wb") as file:
        for first in range(0, count // 2, 1 << 16):
            ops = np.arange(first, min(first + (1 << 16), count // 2))
            events = np.zeros(2 * len(ops), _EVENT)
            events["magic"] = _MAGIC
            events["time"] = np.concatenate(
                [(ops - ops % DEPTH) * 1000, (ops - ops % DEPTH) * 1000 + 900]
            )
            events["sector"] = np.tile(
                np.random.default_rng(first).integers(0, SIZE >> 12, len(ops)) * 8, 2
            )
            events["bytes"], events["pid"], events["device"] = 4096, 1, 8 << 20
            events["action"] = np.repeat([_Q, _C], len(ops))
            events = events[np.argsort(events["time"], kind="stable")]
            events["sequence"] = np.arange(len(events)) + 2 * first + 1
            file.write(events.tobytes())


# ---------------------------------------------------------------- what Python does


def whole(path: Path) -> object:
    """All columns."""
    import analysis

    return analysis.open(path).ops.collect()


def numbers(path: Path) -> object:
    """All columns but the digests."""
    import polars as pl

    import analysis

    return analysis.open(path).ops.select(pl.exclude("digest")).collect()


def column(path: Path) -> object:
    """One column, as the msgpack loop has it."""
    import analysis

    return analysis.open(path).ops.select("offset").collect()


def last_writer(path: Path) -> object:
    """Of every sector at which an op began, the last that did."""
    import polars as pl

    import analysis

    changes = analysis.open(path).ops.filter(pl.col("kind").is_in(["write", "zero", "trim"]))
    return changes.group_by("sector").agg(pl.col("seq").max()).collect(engine="streaming")


def overwrites(path: Path) -> object:
    """How many sectors were written how often."""
    import polars as pl

    import analysis

    changes = analysis.open(path).ops.filter(pl.col("kind").is_in(["write", "zero", "trim"]))
    counts = changes.group_by("sector").len("times").group_by("times").len().sort("times")
    return counts.collect(engine="streaming")


def summary(path: Path) -> object:
    """A row of sums over several columns, all ops: nothing of them is kept."""
    import polars as pl

    import analysis

    pl_sum = [pl.col("length").sum(), pl.col("latency").max(), pl.col("in_flight").max()]
    return analysis.open(path).ops.select(pl_sum).collect(engine="streaming")


def msgpack_loop(path: Path) -> object:
    """One field of every record, by any msgpack library's means."""
    import msgpack

    offsets = []
    with path.open("rb") as file:
        unpacker = msgpack.Unpacker(file)
        next(unpacker)
        for record in unpacker:
            if record[0] == 1:
                offsets.append(record[4])  # noqa: PERF401  plain is what it is to be
    return offsets


STEPS: dict[str, Callable[[Path], object]] = {
    "frame, all columns": whole,
    "frame, without digests": numbers,
    "frame, offsets alone": column,
    "query: last writer": last_writer,
    "query: overwrite counts": overwrites,
    "query: sums": summary,
    "msgpack loop, offsets alone": msgpack_loop,
}


def run(argv: list[str], folder: Path) -> tuple[float, float, int]:
    """Run a step; return seconds, seconds of CPU time (with the start of Python: on a busy machine
    they tell more than the former), and peak memory in MiB."""
    started = time.perf_counter()
    process = subprocess.Popen(argv, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    told = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(argv)} failed")
    if argv[0] == sys.executable:
        seconds = float(told)
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss >> 10


def main() -> None:
    """Make the inputs, run all steps in turn, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ops", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--trace", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        import analysis.frames  # noqa: F401  the start of Python is not counted

        started = time.perf_counter()
        made = STEPS[options.step](options.trace)
        print(time.perf_counter() - started)
        del made  # only now: to let go of a frame is no part of making it
        return
    root = Path(__file__).parent.parent
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as name:
        folder = Path(name)
        trace, ordered = folder / "long.trace", folder / "ordered.trace"
        make(trace, options.ops, out_of_order=True)
        make(ordered, options.ops)
        us = [sys.executable, "-m", "benchmarks.frames", "--step"]
        first = next(iter(STEPS))
        steps = {f"{first}; ops completed in order": ([*us, first, "--trace", str(ordered)], root)}
        steps |= {step: ([*us, step, "--trace", str(trace)], root) for step in STEPS}
        if shutil.which("blkparse") and shutil.which("btt"):
            make_blktrace(folder / "long.blktrace.0", options.ops)
            # text as people read it; and (-O -d) the one sorted file that btt takes
            steps["blkparse to text"] = ["blkparse", "-q", "-i", "long", "-o", "text"], folder
            steps["blkparse to btt's file"] = (
                ["blkparse", "-q", "-i", "long", "-O", "-d", "bin"],
                folder,
            )
            steps["btt"] = ["btt", "-i", "bin", "-o", "told"], folder
        else:
            print("blkparse and btt are not installed (Debian: blktrace): left out")
        found: dict[str, list[tuple[float, float, int]]] = {step: [] for step in steps}
        for _ in range(options.rounds):
            for step, (argv, place) in steps.items():
                found[step].append(run(argv, place))
    print(f"{options.ops:,} events, {options.rounds} rounds\n")
    print("| step | s | events/s | of all columns' time | CPU s | peak memory, MiB |")
    print("|---|---:|---:|---:|---:|---:|")
    base = statistics.median(seconds for seconds, _, _ in found[first])
    for step, results in found.items():
        seconds, cpu, peak = (statistics.median(one) for one in zip(*results, strict=True))
        rate, ratio = options.ops / seconds, seconds / base
        print(f"| {step} | {seconds:.2f} | {rate:,.0f} | {ratio:.2f} | {cpu:.2f} | {peak:,.0f} |")


if __name__ == "__main__":
    main()
