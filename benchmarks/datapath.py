"""Compare the data path with its peers: fio's nbd engine, all servers up at once, taking turns.

    python -m benchmarks.datapath [--seconds S] [--rounds N] [--peers A,B] [--json OUT]

Prints for each cell every peer's median throughput as a ratio to blkverify's, and the CPU time per
request of blkbox, with and without a driver. Then prints the goals, and blkbox's peak memory.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.peers import ALONE, PEERS, cpu_seconds, peak_memory

CELLS = [
    ("randwrite", "4k", 1),
    ("randread", "4k", 1),
    ("randwrite", "4k", 16),
    ("randread", "4k", 16),
    ("write", "64k", 8),
    ("read", "64k", 8),
    ("write", "1M", 8),
    ("read", "1M", 8),
    ("randtrim", "4k", 1),
    ("randtrim", "4k", 16),
]

GOALS = {
    "randwrite 4k depth 1": 1.6,
    "randwrite 4k depth 16": 1.5,
    "write 64k depth 8": 1.1,
    "write 1M depth 8": 1.3,
}
"""By cell, the throughput of a recording without a driver as a ratio to blkverify's."""

TRIM_GOAL = 0.5
"""blkbox's share of qemu-nbd's throughput in a cell of trims, divided by its share in the cell of
writes at the same depth."""
SIZE = "256M"
OURS = ("blkbox", ALONE)
COMPRESSIBLE = 60
"""Percent by which compression shrinks fio's data: as much as the data of a Debian install."""


def fio(socket: Path, rw: str, bs: str, depth: int, seconds: float | None) -> tuple[float, float]:
    """Run fio for ``seconds``, or once over the disk if None. Return requests and bytes per second.

    Exits if fio reports an error.
    """
    limit = [f"--runtime={seconds}s", "--time_based=1"] if seconds else []
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        subprocess.run(
            ["fio", "--name=cell", "--ioengine=nbd", f"--uri=nbd+unix:///?socket={socket}",
             f"--rw={rw}", f"--bs={bs}", f"--iodepth={depth}", f"--size={SIZE}", *limit,
             "--refill_buffers=1", f"--buffer_compress_percentage={COMPRESSIBLE}",
             "--output-format=json", f"--output={out.name}"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120,
        )  # fmt: skip
        job = json.loads(Path(out.name).read_text())["jobs"][0]
    if job["error"]:
        raise SystemExit(f"fio failed on {socket}: errno {job['error']}")
    side = job[next(kind for kind in ("read", "write", "trim") if kind in rw)]
    return side["iops"], side["bw_bytes"]


def measure(peers: list[str], seconds: float, rounds: int) -> dict[str, Any]:
    """Measure every peer in every cell, ``seconds`` each.

    Returns ``iops`` and ``cpu_us`` (by cell and peer, a figure per round: requests per second, and
    our CPU time per request) and ``memory`` (blkbox's peak, in bytes).
    """
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp"))
        )
        servers = {name: stack.enter_context(PEERS[name](folder, SIZE)) for name in peers}
        iops: dict[str, dict[str, list[float]]] = {}
        cpu: dict[str, dict[str, list[float]]] = {}
        for round_ in range(rounds):
            for socket, _ in servers.values():
                # Allocate every cluster, again after each round's trims. Larger pieces would be
                # slower afterwards: some kernels keep them in page cache folios so large that a
                # 4 KiB write to a folio costs 25 us.
                fio(socket, "write", "64k", 8, None)
            for rw, bs, depth in CELLS:
                cell = f"{rw} {bs} depth {depth}"
                for name in peers if round_ % 2 == 0 else reversed(peers):
                    socket, pid = servers[name]
                    before = cpu_seconds(pid)
                    rate, _ = fio(socket, rw, bs, depth, seconds)
                    iops.setdefault(cell, {}).setdefault(name, []).append(rate)
                    if name in OURS:
                        spent = (cpu_seconds(pid) - before) / (rate * seconds)
                        cpu.setdefault(cell, {}).setdefault(name, []).append(spent * 1e6)
        memory = peak_memory(servers["blkbox"][1]) if "blkbox" in servers else 0
    return {"iops": iops, "cpu_us": cpu, "memory": memory}


def table(result: dict[str, Any], peers: list[str]) -> str:
    """Return the medians as a Markdown table of ratios."""
    base = "blkverify" if "blkverify" in peers else peers[0]
    lines = [
        f"| cell | {' | '.join(peers)} | {base}, requests/s | "
        + " | ".join(f"{name}: CPU, us/request" for name in OURS)
        + " |",
        "|---|" + "---:|" * (len(peers) + 1 + len(OURS)),
    ]
    for cell, rates in result["iops"].items():
        middle = _medians(rates)
        ratios = " | ".join(f"{middle[name] / middle[base]:.2f}" for name in peers)
        spent = _medians(result["cpu_us"].get(cell, {}))
        cpu = " | ".join(f"{spent[name]:.0f}" if name in spent else "-" for name in OURS)
        lines.append(f"| {cell} | {ratios} | {middle[base]:,.0f} | {cpu} |")
    return "\n".join(lines)


def goals(result: dict[str, Any]) -> str:
    """Return a line for each goal whose peers were measured: the figure, and the goal."""
    middle = {cell: _medians(rates) for cell, rates in result["iops"].items()}
    lines = []
    for cell, goal in GOALS.items():
        if middle[cell].keys() >= {ALONE, "blkverify"}:
            found = middle[cell][ALONE] / middle[cell]["blkverify"]
            lines.append(f"{ALONE}, {cell}: {found:.2f} of blkverify (goal {goal:.2f})")
    for depth in (1, 16):
        trims, writes = middle[f"randtrim 4k depth {depth}"], middle[f"randwrite 4k depth {depth}"]
        if trims.keys() >= {"blkbox", "qemu-nbd"}:
            share = trims["blkbox"] / trims["qemu-nbd"]
            found = share / (writes["blkbox"] / writes["qemu-nbd"])
            lines.append(
                f"blkbox, randtrim 4k depth {depth}: {share:.2f} of qemu-nbd, {found:.2f} of the "
                f"writes' share (goal {TRIM_GOAL:.2f})"
            )
    return "\n".join(lines)


def _medians(rates: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in rates.items()}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    peers = options.peers.split(",")
    result = measure(peers, options.seconds, options.rounds)
    print(table(result, peers))
    print(f"\n{goals(result)}\n\nblkbox peak memory: {result['memory'] / 2**20:.0f} MiB")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
