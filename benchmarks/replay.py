"""Compare a replay at depth 16 with fio on the same ops (read_iolog), both on qemu-nbd qcow2.

    python -m benchmarks.replay [--ops N] [--rounds N]

The time covers the ops only. It excludes the start of the server and the comparison of whole
images. It includes what blkbox does and fio does not: building the reference, making the payloads
and comparing every read.
"""

import argparse
import random
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.peers import direct
from replay.options import Order
from replay.player import Player, PlayOptions, Sides
from tracer.digest import digest
from tracer.disk.export import NbdDevice
from tracer.disk.file import FileDevice
from tracer.disk.loop import Loop
from tracer.disk.raw import make_raw
from tracer.mirror.comparison import Comparison
from tracer.nbd.uri import Address
from tracer.op import Kind, Op
from tracer.trace.data import TraceWithData
from tracer.trace.file import TraceWriter
from tracer.trace.header import Header
from tracer.trace.records import End, pack_op

SIZE = 256 << 20
DEPTH = 16
LENGTH = 4096


def make(folder: Path, count: int) -> tuple[Path, Path]:
    """Write the same random reads and writes as a trace and as an iolog. Return both paths."""
    chance = random.Random(0)
    trace, iolog = folder / "r.trace", folder / "r.iolog"
    writer = TraceWriter(trace, Header(size=SIZE, payloads="hash"))
    records, lines = [], ["fio version 2 iolog", "disk add", "disk open"]
    for seq in range(count):
        kind = Kind.WRITE if chance.random() < 0.5 else Kind.READ
        offset = chance.randrange(SIZE // LENGTH) * LENGTH
        # all in flight together up to the depth, as fio plays an iolog
        key = digest(chance.randbytes(9))
        op = Op(seq, int(kind), 0, offset, LENGTH, submitted=0, completed=1, digest=key)
        records.append(pack_op(op))
        lines.append(f"disk {kind.label} {offset} {LENGTH}")
    writer.write(records)
    writer.close(End(count, 0, 0, "clean"))
    iolog.write_text("\n".join([*lines, "disk close", ""]))
    return trace, iolog


def blkbox(folder: Path, trace: Path) -> float:
    """Return the ops per second of the player."""
    with direct(folder, str(SIZE)) as (socket, _), Loop() as loop:
        raw = folder / "reference.raw"
        raw.unlink(missing_ok=True)
        make_raw(raw, SIZE)
        with (
            TraceWithData(trace) as source,
            FileDevice(raw, durable=False) as reference,
            NbdDevice.connect(loop, Address(path=str(socket))) as device,
        ):
            sides = Sides(loop, reference, device, Comparison())
            player = Player(source, sides, PlayOptions(order=Order(depth=DEPTH)))
            started = time.perf_counter()
            played = player.play()
            seconds = time.perf_counter() - started
        assert not played.faults
    return played.replayed / seconds


def fio(folder: Path, iolog: Path, count: int) -> float:
    """Return the ops per second of fio."""
    with direct(folder, str(SIZE)) as (socket, _):
        out = subprocess.run(
            ["fio", "--name=replay", "--ioengine=nbd", f"--uri=nbd+unix:///?socket={socket}",
             f"--read_iolog={iolog}", f"--iodepth={DEPTH}", "--replay_no_stall=1",
             f"--size={SIZE}"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
    total = re.search(r"total=r=(\d+),w=(\d+)|issued rwts: total=(\d+),(\d+)", out)
    took = [int(value) for value in re.findall(r"run=(\d+)-\d+msec", out)]
    assert total is not None
    assert sum(int(value) for value in total.groups() if value) == count, out
    return count / (max(took) / 1000)


def main() -> None:
    """Measure in turn. Print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ops", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rates: dict[str, list[float]] = {"blkbox": [], "fio": []}
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as name:
        folder = Path(name)
        trace, iolog = make(folder, options.ops)
        for _ in range(options.rounds):
            for key in rates:
                (folder / "direct.qcow2").unlink(missing_ok=True)
                (folder / "direct.sock").unlink(missing_ok=True)
                rates[key].append(
                    blkbox(folder, trace) if key == "blkbox" else fio(folder, iolog, options.ops)
                )
    ours, theirs = (statistics.median(rates[key]) for key in ("blkbox", "fio"))
    print(f"replay at depth {DEPTH}: blkbox {ours:,.0f} ops/s, fio {theirs:,.0f} ops/s, "
          f"ratio {ours / theirs:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
