"""One workload that triggers every defect of plugin.py, and the culprit of each by construction."""

import random
from dataclasses import dataclass
from pathlib import Path

from tracer.digest import digest
from tracer.op import CARRIES_DATA, Flag, Kind, Op
from tracer.payload import PayloadWriter, payload_path
from tracer.trace import End, Header, TraceWriter, pack_op

KIB = 1024
SIZE = 4 << 20
Request = tuple[Kind, int, int, int]
"""kind, offset, length, flags"""

WORKLOAD: list[Request] = [
    *((Kind.WRITE, cluster * 64 * KIB, 64 * KIB, 0) for cluster in range(16)),  # 0 to 15
    (Kind.FLUSH, 0, 0, 0),  # 16
    (Kind.WRITE, 20 * KIB, 4 * KIB, 0),  # 17: inside a cluster
    (Kind.WRITE, 60 * KIB, 12 * KIB, 0),  # 18: across a boundary
    (Kind.ZERO, 256 * KIB, 32 * KIB, 0),  # 19
    (Kind.TRIM, 512 * KIB, 64 * KIB, 0),  # 20
    (Kind.READ, 0, 64 * KIB, 0),  # 21
    (Kind.FLUSH, 0, 0, 0),  # 22
    (Kind.WRITE, 516 * KIB, 4 * KIB, 0),  # 23: rewrites some of what was trimmed
    (Kind.BLOCK_STATUS, 0, SIZE, 0),  # 24
    (Kind.WRITE, 900 * KIB, 4 * KIB, int(Flag.FUA)),  # 25
    (Kind.READ, 0, 1024 * KIB, 0),  # 26
    (Kind.FLUSH, 0, 0, 0),  # 27
]


@dataclass(frozen=True)
class Expected:
    """What blkbox must say of a defect: its culprit's number, the verdict, and the damage that the
    culprit alone does, as (first sector, sectors)."""

    culprit: int
    verdict: str = "damaged"
    damage: tuple[tuple[int, int], ...] = ()


def kib(offset: int, length: int) -> tuple[tuple[int, int], ...]:
    """One damaged range, in KiB."""
    return ((offset * 2, length * 2),)


DEFECTS = {
    "first-write-lost": Expected(0, damage=kib(0, 64)),
    "write-lost": Expected(17, damage=kib(20, 4)),
    "last-write-lost": Expected(25, damage=kib(900, 4)),
    "write-torn": Expected(18, damage=kib(64, 8)),
    "write-misdirected": Expected(17, damage=kib(20, 4) + kib(84, 4)),
    "write-zeroed": Expected(17, damage=kib(20, 4)),
    "bit-flip": Expected(25, damage=((1800, 1),)),
    "write-shifted": Expected(25, damage=kib(900, 4)),
    "zero-ignored": Expected(19, damage=kib(256, 32)),
    "zero-too-long": Expected(19, damage=kib(288, 4)),
    "trim-too-long": Expected(20, damage=kib(576, 64)),
    "flush-damages": Expected(16, damage=kib(192, 1)),
    "delayed": Expected(22, damage=((640, 1),)),
    "read-damages-disk": Expected(21, damage=((16, 1),)),
    "read-returns-wrong": Expected(21, damage=((1, 1),)),
    "false-hole": Expected(14, damage=kib(900, 4)),
    "lost-on-close": Expected(17, damage=kib(20, 4)),
    "wrong-errno": Expected(25, "failed"),
    "crash-on-zero": Expected(19, "failed"),
    "hang": Expected(23, "failed"),
    "check-only": Expected(19, "failed"),
}


def make_trace(
    path: Path, requests: list[Request], *, size: int = SIZE, payloads: str = "full", together: int = 1
) -> Path:
    """Write a trace of requests, each with random bytes of its own, ``together`` at a time in flight.
    Reads are recorded as they were on a perfect disk."""
    disk, source = bytearray(size), random.Random(0)
    header = Header(size=size, payloads=payloads)
    writer = TraceWriter(path, header)
    store = PayloadWriter(payload_path(path), header.id) if payloads == "full" else None
    for seq, (kind, offset, length, flags) in enumerate(requests):
        group = seq // together
        op = Op(seq, int(kind), flags, offset, length, submitted=group * 100, completed=group * 100 + 50)
        if kind in CARRIES_DATA:
            data = source.randbytes(length)
            op.digest = digest(data)
            if store is not None:
                op.payload = store.put(op.digest, data)
            disk[offset : offset + length] = data
        elif kind in (Kind.ZERO, Kind.TRIM):
            disk[offset : offset + length] = bytes(length)
        elif kind == Kind.READ:
            op.digest = digest(bytes(disk[offset : offset + length]))
        writer.write([pack_op(op)])
    if store is not None:
        store.close()
    writer.close(End(len(requests), 0, len(requests) * 100, "clean"))
    return path


def write_driver(folder: Path, defect: str) -> Path:
    """A driver file for the nbdkit plugin with a defect."""
    path = folder / f"{defect}.toml"
    plugin = Path(__file__).parent / "plugin.py"
    path.write_text(
        f"""
        serve = ["nbdkit", "--foreground", "--unix", "{{socket}}", "python",
                 "{plugin}", "image={{image}}", "defect={defect}", "starts={folder}/starts"]
        check = ["sh", "-c", "if test -e $0.bad; then cat $0.bad; exit 1; fi", "{{image}}"]
        """
    )
    return path
