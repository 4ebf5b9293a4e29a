"""The workloads that trigger the defects, and the files that a replay of them needs."""

import json
import random
from pathlib import Path

from tracer.digest import digest
from tracer.op import CARRIES_DATA, Flag, Kind, Op
from tracer.trace.header import Header
from tracer.trace.output import TraceOutput
from tracer.trace.records import End

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

REWRITES: list[Request] = [
    (Kind.WRITE, 0, 64 * KIB, 0),  # 0
    (Kind.WRITE, 64 * KIB, 64 * KIB, 0),  # 1
    (Kind.WRITE, 20 * KIB, 4 * KIB, 0),  # 2: inside a cluster
    (Kind.WRITE, 60 * KIB, 8 * KIB, 0),  # 3: across a boundary
    (Kind.FLUSH, 0, 0, 0),  # 4
    (Kind.WRITE, 20 * KIB, 4 * KIB, 0),  # 5
    (Kind.WRITE, 60 * KIB, 8 * KIB, 0),  # 6
    (Kind.WRITE, 20 * KIB, 4 * KIB, 0),  # 7
    (Kind.READ, 0, 64 * KIB, 0),  # 8
    (Kind.WRITE, 60 * KIB, 8 * KIB, 0),  # 9
    (Kind.FLUSH, 0, 0, 0),  # 10
]

TOGETHER: list[Request] = [
    (Kind.WRITE, 0, 64 * KIB, 0),  # 0
    (Kind.WRITE, 64 * KIB, 64 * KIB, 0),  # 1
    (Kind.WRITE, 192 * KIB, 64 * KIB, 0),  # 2
    (Kind.WRITE, 128 * KIB, 64 * KIB, 0),  # 3
    (Kind.ZERO, 128 * KIB, 4 * KIB, 0),  # 4: zeroes, then a write
    (Kind.WRITE, 160 * KIB, 4 * KIB, 0),  # 5
    (Kind.WRITE, 0, 4 * KIB, 0),  # 6: two writes
    (Kind.WRITE, 32 * KIB, 4 * KIB, 0),  # 7
    (Kind.WRITE, 64 * KIB, 4 * KIB, 0),  # 8: a write, then zeroes
    (Kind.ZERO, 96 * KIB, 4 * KIB, 0),  # 9
    (Kind.READ, 224 * KIB, 4 * KIB, 0),  # 10: a read, then a write
    (Kind.WRITE, 192 * KIB, 4 * KIB, 0),  # 11
    (Kind.FLUSH, 0, 0, 0),  # 12
    (Kind.READ, 0, 256 * KIB, 0),  # 13
]

WORKLOADS: dict[str, tuple[list[Request], int]] = {
    "main": (WORKLOAD, 1),
    "rewrites": (REWRITES, 1),
    "together": (TOGETHER, 2),
}
"""Requests, and how many at a time are in flight."""


def make_trace(
    path: Path,
    requests: list[Request],
    *,
    size: int = SIZE,
    payloads: str = "full",
    together: int = 1,
) -> Path:
    """Write a trace of requests, each with random bytes of its own, ``together`` at a time in
    flight. Reads are recorded as they were on a perfect disk."""
    disk, source = bytearray(size), random.Random(0)
    header = Header(size=size, payloads=payloads)
    with TraceOutput(path, header) as output:
        for seq, (kind, offset, length, flags) in enumerate(requests):
            start = seq // together * 100
            op = Op(seq, int(kind), flags, offset, length, submitted=start, completed=start + 50)
            if kind in CARRIES_DATA:
                data = source.randbytes(length)
                output.store(op, data)
                disk[offset : offset + length] = data
            elif kind in (Kind.ZERO, Kind.TRIM):
                disk[offset : offset + length] = bytes(length)
            elif kind == Kind.READ:
                op.digest = digest(bytes(disk[offset : offset + length]))
            output.op(op)
        output.close(End(len(requests), 0, len(requests) * 100, "clean"))
    return path


def write_driver(folder: Path, defect: str, form: str = "nbdkit") -> Path:
    """A driver file for a defect ("none" for none), as the "nbdkit" plugin or as our own
    "server"."""
    plugin, starts = Path(__file__).parent / "plugin.py", folder / "starts"
    serve = {
        "nbdkit": [
            "nbdkit", "--foreground", "--unix", "{socket}", "python", str(plugin),
            "image={image}", f"defect={defect}", f"starts={starts}",
        ],
        "server": ["{python}", "-m", "tests.kit.faulty.server", "{socket}", "{image}",
                   defect, str(starts)],
    }  # fmt: skip
    check = ["sh", "-c", "if test -e $0.bad; then cat $0.bad; exit 1; fi", "{image}"]
    root = str(Path(__file__).parents[3])
    path = folder / f"{defect}.toml"
    path.write_text(
        f"serve = {json.dumps(serve[form])}\n"
        f"check = {json.dumps(check)}\n"
        f"env = {{ PYTHONPATH = {json.dumps(root)} }}\n"
    )
    return path
