"""Compare the lookup of damaged sectors in a trace's payloads with zstd, sha1sum and b3sum on them.

    python -m benchmarks.provenance [--gib N] [--rounds N] [--payloads full|hash]

Makes a trace of N GiB of random 4 to 64 KiB writes that compress to about 0.4, like an install's.
Then explains damage: data of other writes at the wrong place, and bytes from nowhere, which need a
search through all payloads. Peers that are installed run on the same bytes: ``zstd -d``
decompresses them (compressed at the recorder's level), ``sha1sum`` and ``b3sum`` (one thread) hash
them uncompressed. The programs take turns, each in its own process, with a warm page cache. Prints
medians of wall time and of CPU time. Other load on the machine disturbs CPU time less.
"""

import argparse
import json
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tracer.candidates.evidence import Evidence
from tracer.op import SECTOR, Kind, Op
from tracer.trace.data import TraceWithData
from tracer.trace.header import Header
from tracer.trace.output import TraceOutput
from tracer.trace.records import End

SIZE = 8 << 30
LENGTHS = (4 << 10, 4 << 10, 16 << 10, 64 << 10)
RANDOM_PART = 0.4
"""The random part of each sector. The rest is zeroes, so that zstd compresses to about 0.4."""


def make(path: Path, total: int, payloads: str) -> None:
    """Make the trace of a guest that writes ``total`` bytes at random places."""
    chance, noise = random.Random(0), np.random.default_rng(0)
    seq = written = 0
    with TraceOutput(path, Header(size=SIZE, payloads=payloads)) as output:
        while written < total:
            length = chance.choice(LENGTHS)
            offset = chance.randrange((SIZE - length) // 4096) * 4096
            sectors = np.zeros((length // SECTOR, SECTOR), np.uint8)
            part = int(SECTOR * RANDOM_PART)
            sectors[:, :part] = noise.integers(0, 256, (len(sectors), part), np.uint8)
            op = Op(seq, int(Kind.WRITE), 0, offset, length, seq * 1000, seq * 1000 + 900)
            output.store(op, sectors.tobytes())
            output.op(op)
            seq, written = seq + 1, written + length
        output.close(End(seq, 0, seq * 1000, "clean"))


def damage(source: TraceWithData) -> tuple[int, list[Evidence]]:
    """Return the number of ops in the trace, and damage to the last 200 writes.

    Each holds the data of another write, padded with bytes from nowhere if that is shorter.
    Damage that overlaps the next damage is left out.
    """
    ops = list(source.trace.ops())
    chance = random.Random(1)
    found: dict[int, Evidence] = {}
    for op in ops[-200:]:
        right, other = bytes(source.data(op) or b""), chance.choice(ops)
        wrong = bytes(source.data(other) or b"")[: op.length].ljust(op.length, b"x")
        found[op.offset] = Evidence(op.offset, right, wrong)
    pieces = sorted(found.values(), key=lambda piece: piece.offset)
    apart = [
        piece for piece, after in zip(pieces, [*pieces[1:], None], strict=True)
        if after is None or piece.end <= after.offset
    ]  # fmt: skip
    return len(ops), apart


def blkbox(path: Path) -> None:
    """Explain the damage. Print the time, the CPU time and the peak memory as JSON."""
    from analysis.provenance import explain

    with TraceWithData(path) as source:
        count, evidence = damage(source)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        started, used = time.perf_counter(), time.process_time()
        findings = explain(source, count, count - 1, evidence)
    used, seconds = time.process_time() - used, time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    kinds = sorted({str(finding.kind) for finding in findings})
    print(json.dumps([seconds, used, memory, before, count, len(findings), kinds]))


def timed(argv: list[str]) -> tuple[float, float]:
    """Run a program. Return its seconds of wall time and of CPU time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def unpack(path: Path, folder: Path) -> dict[str, list[str]]:
    """Write the payloads as files that the peers can read. Return the commands of the peers."""
    plain, packed = folder / "plain", folder / "packed.zst"
    with TraceWithData(path) as source, plain.open("wb") as file:
        assert source.payloads is not None
        for _, data in source.payloads.blocks(lambda at, length: True):
            file.write(data)
    subprocess.run(["zstd", "-q", "--fast=1", "-f", str(plain), "-o", str(packed)], check=True)
    peers = {
        "zstd -d": ["zstd", "-q", "-d", "-c", str(packed)],
        "b3sum": ["b3sum", "--num-threads=1", str(plain)],
        "sha1sum": ["sha1sum", str(plain)],
    }
    return {name: argv for name, argv in peers.items() if shutil.which(argv[0])}


def main() -> None:
    """Make the trace, run everything in turn, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gib", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--payloads", choices=["full", "hash"], default="full")
    parser.add_argument("--step", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        blkbox(options.step)
        return
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as name:
        folder = Path(name)
        path = folder / "p.trace"
        make(path, int(options.gib * (1 << 30)), options.payloads)
        peers = unpack(path, folder) if options.payloads == "full" else {}
        argv = [sys.executable, "-m", "benchmarks.provenance", "--step", str(path)]
        times: dict[str, list[tuple[float, float]]] = {"blkbox": [], **{peer: [] for peer in peers}}
        for _ in range(options.rounds):
            out = subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout
            seconds, used, memory, before, count, findings, kinds = json.loads(out)
            times["blkbox"].append((seconds, used))
            for peer, command in peers.items():
                times[peer].append(timed(command))
        print(
            f"{count:,} writes, {options.gib} GiB of payloads "
            f"({options.payloads}), {findings} findings"
        )
        print(f"({', '.join(kinds)}); peak memory {memory} MiB, before it {before} MiB\n")
        print("| | wall, s | CPU, s | blkbox / it, wall | CPU |\n|---|---:|---:|---:|---:|")
        middle = {name: [statistics.median(values) for values in zip(*runs, strict=True)]
                  for name, runs in times.items()}  # fmt: skip
        for name, (wall, cpu) in middle.items():
            ratios = [ours / its for ours, its in zip(middle["blkbox"], (wall, cpu), strict=True)]
            print(f"| {name} | {wall:.2f} | {cpu:.2f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")


if __name__ == "__main__":
    main()
