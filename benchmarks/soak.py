"""Long checks of the promises of the data path. Each prints what it did, or fails.

    python -m benchmarks.soak overlap [--ops N] [--driver D]    no false difference under overlap
    python -m benchmarks.soak kill [--rounds N]                 SIGKILL loses no acknowledged op
    python -m benchmarks.soak slow                              memory is bounded on a slow driver

All use ``trace record``. In the first two the guest has DEPTH requests in flight.
"""

import argparse
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.datapath import fio
from benchmarks.peers import blkbox, peak_memory
from tracer.digest import digest
from tracer.disk.device import Data
from tracer.disk.export import NbdDevice
from tracer.disk.loop import Loop
from tracer.nbd.uri import Address
from tracer.op import Extents, Kind
from tracer.rework.verify import verify
from tracer.trace.file import Trace

DEPTH = 32
KINDS = [Kind.WRITE] * 5 + [Kind.READ] * 4 + [Kind.ZERO, Kind.TRIM]


def guest(
    socket: Path, size: int, chance: random.Random, more: Callable[[int], bool], acked: list[bytes]
) -> int:
    """Send random ops of up to 8 KiB to a disk of ``size`` bytes, until ``more`` returns False or
    the server is gone. On a small disk they overlap all the time.

    ``more`` gets the number of ops sent. Returns how many ops succeeded, and adds the digests of
    the successful writes to ``acked``.
    """
    done_count = in_flight = sent = 0
    blob = chance.randbytes(1 << 20)
    with Loop() as loop, NbdDevice.connect(loop, Address(path=str(socket))) as device:
        while device.lost is None and (in_flight or more(sent)):
            while in_flight < DEPTH and device.lost is None and more(sent):
                kind = chance.choice(KINDS)
                length = 512 * chance.randint(1, 16)
                at = chance.randrange(len(blob) - length)
                data = blob[at : at + length] if kind == Kind.WRITE else None

                def done(
                    error: int, _d: Data | None, _e: Extents, data: bytes | None = data
                ) -> None:
                    nonlocal in_flight, done_count
                    in_flight -= 1
                    done_count += not error
                    if data is not None and not error:
                        acked.append(digest(data))

                in_flight += 1
                sent += 1
                offset = 512 * chance.randrange((size - length) // 512 + 1)
                device.submit(int(kind), 0, offset, length, data, done)
            device.kick()
            loop.poll(1.0)
    return done_count


def overlap(count: int, driver: str) -> None:
    """Send overlapping ops. The recording must be clean. Print the recorder's peak memory half-way
    and at the end.
    """
    size = 1 << 20
    with tempfile.TemporaryDirectory(prefix="soak-", dir="/var/tmp") as folder:
        trace = Path(folder) / "blkbox.trace"
        memory = []
        options = ("--driver", driver, "--payloads", "hash")
        with blkbox(Path(folder), str(size), *options) as (socket, pid):
            for half in (0, 1):
                want = count // 2
                ok = guest(
                    socket, size, random.Random(half), lambda sent, want=want: sent < want, []
                )
                assert ok == want, f"{want - ok} ops failed"
                memory.append(peak_memory(pid))
        with Trace(trace) as recorded:
            end = recorded.end
        assert end is not None
        assert (end.verdict, end.mismatches) == ("clean", 0), end
        print(f"overlap: {count:,} ops on {driver}, no difference; peak memory "
              f"{memory[0] >> 20} MiB half-way, {memory[1] >> 20} MiB at the end")  # fmt: skip


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


def slow() -> None:
    """Keep 256 MiB of writes in flight on a driver that takes 0.2 s for each.

    The recorder's peak memory must stay below 200 MiB.
    """
    with tempfile.TemporaryDirectory(prefix="soak-", dir="/var/tmp") as folder:
        driver = Path(folder) / "slow.toml"
        driver.write_text(
            'serve = ["nbdkit", "--foreground", "--unix", "{socket}", "--filter=delay", '
            '"file", "{image}", "wdelay=200ms"]'
        )
        with blkbox(Path(folder), "256M", "--driver", str(driver)) as (socket, pid):
            requests, _ = fio(socket, "write", "1M", 256, 10)
            memory = peak_memory(pid)
    assert memory < 200 << 20, f"{memory >> 20} MiB"
    print(
        f"slow: {requests:,.0f} writes of 1 MiB/s on a slow driver; peak memory {memory >> 20} MiB"
    )


def main() -> None:
    """Run one of the checks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("check", choices=["overlap", "kill", "slow"])
    parser.add_argument("--ops", type=int, default=1_000_000)
    parser.add_argument("--driver", default="qcow2")
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if options.check == "overlap":
        overlap(options.ops, options.driver)
    elif options.check == "kill":
        kill(options.rounds)
    else:
        slow()


if __name__ == "__main__":
    main()
