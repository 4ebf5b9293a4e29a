"""A guest that does what a recorded guest did: it plays a trace's ops against an NBD server.

Usage: guest.py TRACE [URI]     (default URI: the environment variable NBD_URI)
"""

import os
import sys
from functools import partial
from pathlib import Path

from replay.schedule import Gate, Step, schedule
from tracer.disk.device import Data
from tracer.disk.export import NbdDevice
from tracer.disk.loop import Loop
from tracer.nbd.uri import parse_uri
from tracer.op import Extents
from tracer.trace.data import TraceWithData

DEPTH = 64


def play(path: Path, uri: str) -> int:
    """Play a trace's ops in their recorded order and concurrency. Return how many failed."""
    gate, failed, in_flight = Gate(), 0, 0

    def done(step: Step, error: int, _data: Data | None, _extents: Extents) -> None:
        nonlocal failed, in_flight
        failed += bool(error)
        in_flight -= 1
        gate.done(step)

    with (
        TraceWithData(path) as source,
        Loop() as loop,
        NbdDevice.connect(loop, parse_uri(uri)) as device,
    ):
        steps = schedule(source.trace.ops(), source.trace.recorded)
        step = next(steps, None)
        while step is not None or in_flight:
            while step is not None and in_flight < DEPTH and gate.open(step):
                op = step.op
                in_flight += 1
                device.submit(
                    op.kind, op.flags, op.offset, op.length, source.data(op), partial(done, step)
                )
                step = next(steps, None)
            device.kick()
            if in_flight:
                loop.poll()
    return failed


if __name__ == "__main__":
    address = sys.argv[2] if len(sys.argv) > 2 else os.environ["NBD_URI"]
    failures = play(Path(sys.argv[1]), address)
    if failures:
        sys.exit(f"{failures} ops failed")
