"""SIGKILL of the recorder must lose no op that the guest saw complete."""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.soak.guest import guest
from tracer.op import Kind
from tracer.rework.verify import verify
from tracer.trace.file import Trace


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this check."""
    parser.add_argument("--rounds", type=int, default=200)


def run(options: argparse.Namespace) -> None:
    """Run the check."""
    kill(options.rounds)


def kill(rounds: int) -> None:
    """Kill the recorder at random moments. Every acknowledged write must be in the trace."""
    total = lost = 0
    trace = Path(sys.executable).with_name("trace")
    for round_ in range(rounds):
        chance = random.Random(round_)
        with tempfile.TemporaryDirectory(prefix="soak-", dir="/var/tmp") as name:
            folder = Path(name)
            socket = folder / "s"
            process = subprocess.Popen(
                [str(trace), "record", str(folder / "k.trace"), "--driver", "raw", "--size", "4M",
                 "--listen", f"unix:{socket}"],
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            while not socket.exists():
                time.sleep(0.005)
            deadline = time.monotonic() + chance.uniform(0.005, 0.3)
            killed = False

            def more(
                _: int, process: subprocess.Popen[bytes] = process, deadline: float = deadline
            ) -> bool:
                nonlocal killed
                if not killed and time.monotonic() > deadline:
                    process.send_signal(signal.SIGKILL)
                    killed = True
                return True

            acked: list[bytes] = []
            guest(socket, 4 << 20, chance, more, acked)
            process.wait()
            with Trace(folder / "k.trace") as recorded:
                found = {op.digest for op in recorded.ops() if op.kind == Kind.WRITE}
            missing = [key for key in acked if key not in found]
            assert not missing, (
                f"round {round_}: {len(missing)} of {len(acked)} acknowledged writes lost"
            )
            verified = verify(folder / "k.trace")
            assert not verified.damaged
            total += len(acked)
            lost += verified.missing
    print(f"kill: {rounds} rounds, {total:,} acknowledged writes, none lost; "
          f"{lost:,} payloads reported missing")  # fmt: skip
