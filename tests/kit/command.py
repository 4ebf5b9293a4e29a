"""Running the command, ``trace``."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kit.peers import PEER_ENV, background
from tests.kit.system import PATIENCE


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
