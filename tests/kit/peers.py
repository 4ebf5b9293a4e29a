"""Real programs: whether they are installed, and how to run them."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kit.system import PATIENCE
from tracer.below.mounted import missing

# nbdsh is written for Debian's Python: let it find that one before any other
PEER_ENV = {**os.environ, "PATH": "/usr/bin:/bin:" + os.environ.get("PATH", "")}


def need(*programs: str) -> None:
    """Skip the test where a program is missing; fail it if BLKBOX_REQUIRE_PEERS=1."""
    for program in programs:
        if shutil.which(program, path=PEER_ENV["PATH"]) is None:
            if os.environ.get("BLKBOX_REQUIRE_PEERS") == "1":
                pytest.fail(f"{program} is not installed, and BLKBOX_REQUIRE_PEERS=1")
            pytest.skip(f"{program} is not installed")


def need_fuse() -> None:
    """Skip the test where no FUSE file can be mounted; fail it if BLKBOX_REQUIRE_PEERS=1."""
    why = missing()
    if why is not None:
        if os.environ.get("BLKBOX_REQUIRE_PEERS") == "1":
            pytest.fail(f"{why}, and BLKBOX_REQUIRE_PEERS=1")
        pytest.skip(why)


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
