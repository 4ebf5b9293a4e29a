"""Make a long trace, then read, verify and replay it: speed and peak memory.

    python -m benchmarks.long_trace [--ops N]

The replay goes to a null device, so it measures blkbox alone. Each step runs in its own process,
which reports its peak memory.
"""

import argparse
import heapq
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from replay.player import Player, PlayOptions, Sides
from tracer.digest import digest
from tracer.disk.device import Data, Done
from tracer.disk.file import EVERYTHING, FileDevice
from tracer.disk.loop import Loop
from tracer.disk.raw import make_raw
from tracer.mirror.comparison import Comparison
from tracer.nbd.protocol import Export
from tracer.op import Buffer, Kind, Op
from tracer.rework.verify import verify
from tracer.trace.data import TraceWithData
from tracer.trace.file import Trace, TraceWriter
from tracer.trace.header import Header
from tracer.trace.records import End, pack_op

SIZE = 64 << 30
DEPTH = 16
BATCH = 10_000


def make(path: Path, count: int, out_of_order: bool = False) -> None:
    """Make the trace of a guest that writes, flushes and zeroes at a queue depth of DEPTH.

    The guest sends DEPTH ops at a time, which complete together. With ``out_of_order``, each op has
    its own latency, as on real disks, so ops complete out of order. There are no reads, because the
    null device cannot answer them.
    """
    chance = random.Random(0)
    digests = [digest(chance.randbytes(64)) for _ in range(4096)]
    writer = TraceWriter(path, Header(size=SIZE, payloads="hash"))
    flying: list[tuple[int, int, bytes]] = []
    records = []
    for seq in range(count):
        offset = chance.randrange(SIZE // 4096) * 4096
        kind = Kind.FLUSH if seq % 50 == 49 else Kind.ZERO if seq % 40 == 39 else Kind.WRITE
        start = seq * 1000 if out_of_order else (seq - seq % DEPTH) * 1000
        end = start + (int(chance.expovariate(1 / (DEPTH * 1000))) if out_of_order else 900)
        op = Op(
            seq, int(kind), 0, *((0, 0) if kind == Kind.FLUSH else (offset, 4096)),
            submitted=start, completed=end, digest=digests[seq % 4096],
        )  # fmt: skip
        while flying and flying[0][0] < start:
            records.append(heapq.heappop(flying)[-1])
        heapq.heappush(flying, (end, seq, pack_op(op)))
        if len(records) >= BATCH:
            writer.write(records)
            records = []
    writer.write([*records, *(record for _, _, record in sorted(flying))])
    writer.close(End(count, 0, count * 1000, "clean"))


class NullDevice:
    """A device that completes every request at once and does nothing."""

    has_block_status = False
    progress = 0

    def __init__(self, size: int) -> None:
        self.export = Export(size, int(EVERYTHING))
        self.lost: Exception | None = None

    def submit(
        self, kind: int, flags: int, offset: int, length: int, data: Buffer | None, done: Done
    ) -> None:
        done(0, None, [])

    def kick(self) -> None:
        """Do nothing: the queue is always empty."""

    def close(self) -> None:
        """Do nothing: nothing is open."""


class NullReference(FileDevice):
    """A reference that is never written, so that the cost of the disk is not measured."""

    def execute(
        self, kind: int, flags: int, offset: int, length: int, data: Buffer | None
    ) -> tuple[int, Data | None, list[tuple[int, int]]]:
        return 0, None, []


def scan(path: Path) -> None:
    """Read every record."""
    with Trace(path) as trace:
        assert sum(1 for _ in trace.ops()) > 0


def check(path: Path) -> None:
    """Do what ``trace verify`` does."""
    assert verify(path).ok


def play(path: Path) -> None:
    """Do what ``trace replay`` does, without a driver."""
    with tempfile.TemporaryDirectory() as folder, Loop() as loop:
        raw = Path(folder) / "reference.raw"
        make_raw(raw, SIZE)
        with TraceWithData(path) as source, NullReference(raw) as reference:
            sides = Sides(loop, reference, NullDevice(SIZE), Comparison())
            result = Player(source, sides, PlayOptions()).play()
            assert result.replayed == source.trace.end.ops  # type: ignore[union-attr]


STEPS: dict[str, Callable[[Path], None]] = {"scan": scan, "verify": check, "replay": play}


def main() -> None:
    """Make a trace, then run each step in its own process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ops", type=int, default=1_000_000)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--trace", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        started = time.perf_counter()
        STEPS[options.step](options.trace)
        seconds = time.perf_counter() - started
        usage = resource.getrusage(resource.RUSAGE_SELF)
        rate = options.ops / seconds
        print(f"| {options.step} | {rate:,.0f} | {usage.ru_maxrss >> 10} |")
        return
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as folder:
        path = Path(folder) / "long.trace"
        started = time.perf_counter()
        make(path, options.ops)
        print(f"{options.ops:,} ops made in {time.perf_counter() - started:.0f} s,", end=" ")
        print(f"{path.stat().st_size >> 20} MiB\n")
        print("| step | ops/s | peak memory, MiB |\n|---|---:|---:|")
        for step in STEPS:
            argv = [
                sys.executable,
                "-m",
                "benchmarks.long_trace",
                "--step",
                step,
                "--trace",
                str(path),
            ]
            subprocess.run([*argv, "--ops", str(options.ops)], check=True)


if __name__ == "__main__":
    main()
