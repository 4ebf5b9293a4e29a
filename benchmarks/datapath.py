"""Compare the data path with its peers: fio's nbd engine, all servers up at once, taking turns.

    python -m benchmarks.datapath [--seconds S] [--rounds N] [--peers A,B] [--json OUT]

Prints for each cell every peer's median throughput as a ratio to blkverify's, and blkbox's CPU time
per request. Prints blkbox's peak memory at the end.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.peers import PEERS, cpu_seconds, peak_memory

CELLS = [
    ("randwrite", "4k", 1),
    ("randread", "4k", 1),
    ("randwrite", "4k", 16),
    ("randread", "4k", 16),
    ("write", "64k", 8),
    ("read", "64k", 8),
    ("write", "1M", 8),
    ("read", "1M", 8),
]
SIZE = "256M"
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
    side = job["read"] if "read" in rw else job["write"]
    return side["iops"], side["bw_bytes"]


def measure(peers: list[str], seconds: float, rounds: int) -> dict[str, Any]:
    """Measure every peer in every cell, ``seconds`` each.

    Returns ``iops`` (by cell and peer: one figure per round, in requests per second), ``cpu_us``
    (by cell: blkbox's CPU time per request in each round) and ``memory`` (blkbox's peak, in bytes).
    """
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp"))
        )
        servers = {name: stack.enter_context(PEERS[name](folder, SIZE)) for name in peers}
        for socket, _ in servers.values():
            # Allocate every cluster. Larger pieces would be slower afterwards: some kernels keep
            # them in page cache folios so large that a 4 KiB write to a folio costs 25 us.
            fio(socket, "write", "64k", 8, None)
        iops: dict[str, dict[str, list[float]]] = {}
        cpu: dict[str, list[float]] = {}
        for round_ in range(rounds):
            for rw, bs, depth in CELLS:
                cell = f"{rw} {bs} depth {depth}"
                for name in peers if round_ % 2 == 0 else reversed(peers):
                    socket, pid = servers[name]
                    before = cpu_seconds(pid)
                    rate, _ = fio(socket, rw, bs, depth, seconds)
                    iops.setdefault(cell, {}).setdefault(name, []).append(rate)
                    if name == "blkbox":
                        cpu.setdefault(cell, []).append(
                            (cpu_seconds(pid) - before) / (rate * seconds)
                        )
        memory = peak_memory(servers["blkbox"][1]) if "blkbox" in servers else 0
    return {
        "iops": iops,
        "cpu_us": {c: [v * 1e6 for v in vs] for c, vs in cpu.items()},
        "memory": memory,
    }


def table(result: dict[str, Any], peers: list[str]) -> str:
    """Return the medians as a Markdown table of ratios."""
    base = "blkverify" if "blkverify" in peers else peers[0]
    lines = [
        "| cell | " + " | ".join(peers) + f" | {base}, requests/s | blkbox CPU, us/request |",
        "|---|" + "---:|" * (len(peers) + 2),
    ]
    for cell, rates in result["iops"].items():
        middle = {name: statistics.median(values) for name, values in rates.items()}
        ratios = " | ".join(f"{middle[name] / middle[base]:.2f}" for name in peers)
        cpu = (
            f"{statistics.median(result['cpu_us'][cell]):.0f}" if cell in result["cpu_us"] else "-"
        )
        lines.append(f"| {cell} | {ratios} | {middle[base]:,.0f} | {cpu} |")
    return "\n".join(lines)


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
    print(f"\nblkbox peak memory: {result['memory'] / 2**20:.0f} MiB")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
