"""Helpers for tests: real programs, the command itself, bytes for state machines, small disks."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faulty.disk import Damage
from tracer.op import SECTOR, Kind, Op
from tracer.trace.file import Trace, TraceWriter
from tracer.trace.header import Header
from tracer.trace.records import End, Mark, Mismatch, pack_op

# nbdsh is written for Debian's Python: let it find that one before any other
PEER_ENV = {**os.environ, "PATH": "/usr/bin:/bin:" + os.environ.get("PATH", "")}

PATIENCE = 60.0
"""Seconds after which a program that should have ended long ago is taken to hang."""

MIB = 1 << 20


def need(*programs: str) -> None:
    """Skip the test where a program is missing; fail it if BLKBOX_REQUIRE_PEERS=1."""
    for program in programs:
        if shutil.which(program, path=PEER_ENV["PATH"]) is None:
            if os.environ.get("BLKBOX_REQUIRE_PEERS") == "1":
                pytest.fail(f"{program} is not installed, and BLKBOX_REQUIRE_PEERS=1")
            pytest.skip(f"{program} is not installed")


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for something that happens soon; fail if it never does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


# ---------------------------------------------------------------- programs


def peer(*argv: object, cwd: Path | None = None, fails: bool = False) -> str:
    """Run a real program to its end; return what it printed. ``fails`` expects a failure."""
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env=PEER_ENV,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode != 0) == fails, f"{argv}: {done.returncode}\n{done.stdout}"
    return done.stdout


def trace(
    *argv: object, cwd: Path, expect: int | tuple[int, ...] = 0, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run ``trace`` to its end, and check its exit code: one, or one of a few."""
    done = subprocess.run(
        [sys.executable, "-m", "blkbox", *map(str, argv)],
        cwd=cwd,
        env=PEER_ENV,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        **options,
    )
    codes = expect if isinstance(expect, tuple) else (expect,)
    assert done.returncode in codes, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@contextmanager
def background(*argv: object, cwd: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A program that runs beside the test; killed and reaped when the block is left."""
    process = subprocess.Popen(
        [str(word) for word in argv],
        cwd=cwd,
        env=PEER_ENV,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=PATIENCE)


@contextmanager
def recording(*argv: object, cwd: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``trace record`` without a command, running: the process and the URI that it serves."""
    with background(sys.executable, "-m", "blkbox", "record", *argv, cwd=cwd) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("serving "), line + process.stderr.read()
        yield process, line.split()[1]


def finish(
    process: subprocess.Popen[str], number: int | None = signal.SIGINT
) -> tuple[int, str, str]:
    """Send a signal, wait for the end; return exit code, stdout and stderr."""
    if number is not None:
        process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def descriptors() -> dict[str, str]:
    """The open file descriptors of this process, and what each is of."""
    names = os.listdir("/proc/self/fd")  # with that of the list itself, which is closed by now
    return {
        name: os.readlink(path)
        for name in names
        if os.path.lexists(path := f"/proc/self/fd/{name}")
    }


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """Writes beyond ``limit`` bytes of any file fail, after a partial one, as they do on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# ---------------------------------------------------------------- traces


@dataclass(frozen=True)
class Recorded:
    """What a trace holds beside its ops."""

    header: Header
    marks: list[Mark]
    mismatches: list[Mismatch]
    end: End | None
    torn_bytes: int


def read_trace(path: Path) -> tuple[Recorded, list[Op]]:
    """What is in a trace, and its ops."""
    with Trace(path) as opened:
        found = Recorded(
            opened.header, opened.marks(), opened.mismatches(), opened.end, opened.torn_bytes
        )
        return found, list(opened.ops())


def changed(kind: int, start: int, end: int, *, failed: bool = False) -> Op:
    """An op on the bytes ``[start, end)`` that both sides are done with; one that failed did so on the
    test side."""
    op = Op(0, int(kind), 0, start, end - start)
    op.test_status = errno.EIO if failed else 0
    return op


def kinds(ops: Iterable[Op]) -> list[str]:
    """The labels of ops' kinds, in order."""
    return [Kind(op.kind).label for op in ops]


def entries(folder: Path) -> list[str]:
    """The names in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------- verdicts


def assert_explained(found: list[dict[str, Any]], expected: Iterable[Damage]) -> None:
    """The ``damage`` or ``culprit_damage`` of a verdict is as expected: the ranges, what kind of damage
    it is, and the op that the wrong bytes came from."""
    told = [
        Damage(
            one["sector"] * SECTOR, one["sectors"] * SECTOR,
            one["class"], one["source"] and one["source"]["seq"],
        )
        for one in found
    ]  # fmt: skip
    assert told == list(expected), told


# ---------------------------------------------------------------- state machines


def feed(machine: Any, data: bytes, sizes: Iterable[int] = ()) -> list[Any]:
    """Give bytes to a machine in pieces of the sizes given, then all the rest; return its messages."""
    found: list[Any] = []
    cuts = iter(sizes)
    at = 0
    while at < len(data):
        target = machine.target()
        count = min(len(target), next(cuts, len(data)), len(data) - at)
        assert count > 0, "a machine must always have room for more"
        target[:count] = data[at : at + count]
        at += count
        found += machine.received(count)
    return found


def drain(machine: Any) -> bytes:
    """Take what a machine wants to send."""
    data = b"".join(bytes(piece) for piece in machine.outgoing)
    machine.outgoing.clear()
    return data


def pattern(length: int, seed: int = 0) -> bytes:
    """Bytes of which every sector differs from its neighbours."""
    ramp = bytes(at % 251 + 1 for at in range(251 + 512))
    starts = ((at // 512 * 7 + at + seed * 31 + 1) % 251 for at in range(0, length, 512))
    return b"".join(ramp[start : start + 512] for start in starts)[:length]


# ---------------------------------------------------------------- traces


ENDED = End(0, 0, 0, "clean")


def write_trace(
    path: Path,
    records: Iterable[Op | Mark | Mismatch],
    size: int = 1 << 40,
    end: End | None = ENDED,
) -> Path:
    """A trace of these records; without an end it is one that was not closed."""
    writer = TraceWriter(path, Header(size))
    for record in records:
        if isinstance(record, Op):
            writer.write([pack_op(record)])
        elif isinstance(record, Mark):
            writer.mark(record)
        else:
            writer.mismatch(record)
    if end is None:
        writer.abandon()
    else:
        writer.close(end)
    return path
