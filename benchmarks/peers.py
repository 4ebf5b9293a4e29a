"""The programs that blkbox is compared with: servers of a qcow2 image on a unix socket.

Each yields its socket and its process id, with a new image in ``folder``.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

QEMU_NBD = ("qemu-nbd", "--persistent", "--shared=8", "--discard=unmap", "--detect-zeroes=off")


def run(*argv: object) -> None:
    """Run a program and wait for it. Raises CalledProcessError if it fails."""
    subprocess.run([str(word) for word in argv], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def serving(argv: list[str], socket: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a server, wait for its socket, and stop the server afterwards.

    Exits if the server ends before, or if there is no socket within 30 s.
    """
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{argv[0]} did not start: {' '.join(argv)}")
            time.sleep(0.01)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def qcow2(path: Path, size: str) -> Path:
    """Make an image."""
    run("qemu-img", "create", "-q", "-f", "qcow2", path, size)
    return path


@contextmanager
def direct(folder: Path, size: str) -> Iterator[tuple[Path, int]]:
    """Serve with qemu-nbd alone, without verification."""
    socket = folder / "direct.sock"
    image = qcow2(folder / "direct.qcow2", size)
    argv = [*QEMU_NBD, "--socket", str(socket), "--format=qcow2", str(image)]
    with serving(argv, socket) as process:
        yield socket, process.pid


@contextmanager
def blkverify(folder: Path, size: str) -> Iterator[tuple[Path, int]]:
    """Serve with QEMU's blkverify over a raw and a qcow2 image."""
    socket, raw = folder / "blkverify.sock", folder / "blkverify.raw"
    run("truncate", "-s", size, raw)
    image = qcow2(folder / "blkverify.qcow2", size)
    argv = [
        "qemu-storage-daemon",
        *("--blockdev", f"driver=file,node-name=raw-file,filename={raw}"),
        *("--blockdev", "driver=raw,node-name=raw,file=raw-file"),
        *("--blockdev", f"driver=file,node-name=test-file,filename={image}"),
        *("--blockdev", "driver=qcow2,node-name=test,file=test-file"),
        *("--blockdev", "driver=blkverify,node-name=verify,test=test,raw=raw"),
        *("--nbd-server", f"addr.type=unix,addr.path={socket}"),
        *("--export", "type=nbd,id=one,node-name=verify,name=,writable=on"),
    ]
    with serving(argv, socket) as process:
        yield socket, process.pid


@contextmanager
def nbdkit_log(folder: Path, size: str) -> Iterator[tuple[Path, int]]:
    """Serve with nbdkit's log filter in front of qemu-nbd: logs, but no comparison."""
    backend, socket = folder / "backend.sock", folder / "log.sock"
    image = qcow2(folder / "log.qcow2", size)
    with ExitStack() as stack:
        argv = [*QEMU_NBD, "--socket", str(backend), "--format=qcow2", str(image)]
        stack.enter_context(serving(argv, backend))
        argv = ["nbdkit", "-f", "-U", str(socket), "--filter=log", "nbd", f"socket={backend}"]
        argv.append(f"logfile={folder}/log.txt")
        process = stack.enter_context(serving(argv, socket))
        yield socket, process.pid


@contextmanager
def blkbox(folder: Path, size: str, *options: str) -> Iterator[tuple[Path, int]]:
    """Serve with ``trace record`` on qcow2, with its default options."""
    socket = folder / "blkbox.sock"
    trace = Path(sys.executable).with_name("trace")
    argv = [
        *(str(trace), "record", str(folder / "blkbox.trace"), "--size", size),
        *("--listen", f"unix:{socket}", *(options or ("--driver", "qcow2"))),
    ]
    with serving(argv, socket) as process:
        yield socket, process.pid


@contextmanager
def alone(folder: Path, size: str) -> Iterator[tuple[Path, int]]:
    """Serve with ``trace record --driver none``."""
    place = folder / "alone"
    place.mkdir()
    with blkbox(place, size, "--driver", "none") as served:
        yield served


ALONE = "blkbox alone"

PEERS = {
    "blkbox": blkbox,
    ALONE: alone,
    "blkverify": blkverify,
    "qemu-nbd": direct,
    "nbdkit log": nbdkit_log,
}


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process so far: all its threads, not its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory(pid: int) -> int:
    """Return the peak memory of a process, in bytes. Raises ValueError if the kernel has none."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no VmHWM for process {pid}")
