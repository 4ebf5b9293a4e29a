"""Compare a trace as a frame with a msgpack loop, and with blkparse and btt on as many events.

    python -m benchmarks.frames [--ops N] [--rounds N]

An event of blkbox is an op, from submission to completion. blktrace has an event for each of the
two. Steps take turns, each in its own process. The table has the medians of time, CPU time and peak
memory. The time does not include the start of Python; the CPU time does.
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
    """Write ``count`` events as blktrace would for a guest like that of ``long_trace.make``."""
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


# ---------------------------------------------------------------- the steps in Python


def whole(path: Path) -> object:
    """Read all columns."""
    import analysis

    return analysis.open(path).ops.collect()


def numbers(path: Path) -> object:
    """Read all columns except the digests."""
    import polars as pl

    import analysis

    return analysis.open(path).ops.select(pl.exclude("digest")).collect()


def column(path: Path) -> object:
    """Read one column, the same as the msgpack loop."""
    import analysis

    return analysis.open(path).ops.select("offset_bytes").collect()


def last_writer(path: Path) -> object:
    """Find the last changing op among the ops that begin at the same sector."""
    import polars as pl

    import analysis

    changes = analysis.open(path).ops.filter(pl.col("kind").is_in(["write", "zero", "trim"]))
    return changes.group_by("sector").agg(pl.col("seq").max()).collect(engine="streaming")


def overwrites(path: Path) -> object:
    """Count the changing ops that begin at each sector, then the sectors by that count."""
    import polars as pl

    import analysis

    changes = analysis.open(path).ops.filter(pl.col("kind").is_in(["write", "zero", "trim"]))
    counts = changes.group_by("sector").len("times").group_by("times").len().sort("times")
    return counts.collect(engine="streaming")


def summary(path: Path) -> object:
    """Compute a row of sums and maxima over all ops. The query keeps no op."""
    import polars as pl

    import analysis

    pl_sum = [pl.col("length_bytes").sum(), pl.col("latency").max(), pl.col("in_flight").max()]
    return analysis.open(path).ops.select(pl_sum).collect(engine="streaming")


def msgpack_loop(path: Path) -> object:
    """Read one field of every record in a plain loop with msgpack's ``Unpacker``."""
    import msgpack

    offsets = []
    with path.open("rb") as file:
        unpacker = msgpack.Unpacker(file)
        next(unpacker)
        for record in unpacker:
            if record[0] == 1:
                offsets.append(record[4])  # noqa: PERF401  a plain loop is what is measured
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
    """Run a step. Return its seconds, its seconds of CPU time, and its peak memory in MiB.

    The CPU time includes the start of Python. On a busy machine it is the more reliable of the two.
    """
    started = time.perf_counter()
    process = subprocess.Popen(argv, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(argv)} failed")
    if argv[0] == sys.executable:
        seconds = float(printed)
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss >> 10


def main() -> None:
    """Make the inputs, run all steps in turn, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ops", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--trace", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        import analysis.frames  # noqa: F401  imported before the time starts

        started = time.perf_counter()
        made = STEPS[options.step](options.trace)
        print(time.perf_counter() - started)
        del made  # only now: freeing a frame is not part of the step
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
            # text for people, and (-O -d) the single sorted file that btt reads
            steps["blkparse to text"] = ["blkparse", "-q", "-i", "long", "-o", "text"], folder
            steps["blkparse to btt's file"] = (
                ["blkparse", "-q", "-i", "long", "-O", "-d", "bin"],
                folder,
            )
            steps["btt"] = ["btt", "-i", "bin", "-o", "result"], folder
        else:
            print("blkparse and btt are not installed (Debian package: blktrace): left out")
        found: dict[str, list[tuple[float, float, int]]] = {step: [] for step in steps}
        for _ in range(options.rounds):
            for step, (argv, place) in steps.items():
                found[step].append(run(argv, place))
    print(f"{options.ops:,} events, {options.rounds} rounds\n")
    print("| step | s | events/s | of all columns' time | CPU s | peak memory, MiB |")
    print("|---|---:|---:|---:|---:|---:|")
    base = statistics.median(seconds for seconds, _, _ in found[first])
    for step, results in found.items():
        seconds, cpu, peak = (statistics.median(values) for values in zip(*results, strict=True))
        rate, ratio = options.ops / seconds, seconds / base
        print(f"| {step} | {seconds:.2f} | {rate:,.0f} | {ratio:.2f} | {cpu:.2f} | {peak:,.0f} |")


if __name__ == "__main__":
    main()
