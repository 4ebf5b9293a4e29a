"""What conflicts cost: CPU time per op of the mirror, with a driver that costs nothing.

    python -m benchmarks.conflicts [--ops N] [--rounds N]

Random ops of 4 KiB at depth 16 complete in any order. *apart*: no two ops in flight overlap, on a
disk of 1 GiB. *conflicts*: on 1,024 sectors, so that most ops meet others. *hold*: the same ops,
but each waits for those that it conflicts with. The rounds take turns; the best of each counts.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

from tracer.disk.device import Done
from tracer.disk.file import FileDevice
from tracer.mirror.comparison import Comparison
from tracer.mirror.flight import Flight
from tracer.mirror.mirror import Mirror
from tracer.nbd.protocol import Export
from tracer.op import SECTOR, Buffer, Kind, Op

LENGTH, DEPTH = 4096, 16
KINDS = (Kind.WRITE, Kind.WRITE, Kind.READ, Kind.READ, Kind.ZERO)
SMALL, LARGE = 1024 * SECTOR, 1 << 30
CASES = {"apart": (LARGE, False), "conflicts": (SMALL, False), "hold": (SMALL, True)}
"""By name, the bytes of the disk, and whether conflicts are held."""


class Free:
    """A disk in memory that completes requests when it is told to."""

    lost: Exception | None = None
    has_block_status = False
    progress = 0

    def __init__(self, size: int) -> None:
        self.export = Export(size, 0)
        self.content: dict[int, bytes] = {}
        self.pending: list[tuple[int, int, Buffer | None, Done]] = []

    def submit(
        self, kind: int, flags: int, offset: int, length: int, data: Buffer | None, done: Done
    ) -> None:
        self.pending.append((kind, offset, data, done))

    def finish(self, index: int) -> None:
        kind, offset, data, done = self.pending.pop(index)
        if kind == Kind.READ:
            done(0, self.content.get(offset, bytes(LENGTH)), [])
            return
        self.content[offset] = bytes(data) if data is not None else bytes(LENGTH)
        done(0, None, [])

    def kick(self) -> None:
        pass

    def close(self) -> None:
        pass


def measure(folder: Path, case: str, ops: int) -> float:
    """Return the CPU time per op, in us."""
    size, hold = CASES[case]
    path = folder / "reference.raw"
    with path.open("wb") as file:
        file.truncate(size)
    chosen = random.Random(0)
    wrong = 0

    def done(flight: Flight) -> None:
        nonlocal wrong
        wrong += bool(flight.differences)

    with FileDevice(path, durable=False) as reference:
        device = Free(size)
        mirror = Mirror(reference, device, Comparison(), done, hold=hold)
        payload = [bytes([n]) * LENGTH for n in range(1, 256)]
        started = time.process_time()
        for seq in range(ops):
            kind = chosen.choice(KINDS)
            offset = chosen.randrange(size // LENGTH) * LENGTH
            data = payload[seq % 255] if kind == Kind.WRITE else None
            mirror.submit(Flight(Op(seq, int(kind), 0, offset, LENGTH), data))
            mirror.pump()
            mirror.apply()
            while mirror.in_flight >= DEPTH:
                device.finish(chosen.randrange(len(device.pending)))
                mirror.pump()
        while device.pending:
            device.finish(0)
            mirror.pump()
        spent = time.process_time() - started
    assert not wrong, "the driver is right"
    return spent / ops * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description="What conflicts cost.")
    parser.add_argument("--ops", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    best = dict.fromkeys(CASES, float("inf"))
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for case in CASES:
                best[case] = min(best[case], measure(Path(folder), case, options.ops))
    for case, spent in best.items():
        print(f"{case:<10} {spent:6.1f} us/op   {spent / best['apart']:5.2f}")


if __name__ == "__main__":
    main()
