"""A Dask scheduler and workers, as real processes on the loopback interface."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.kit.peers import background


@contextmanager
def cluster(folder: Path, workers: int = 2) -> Iterator[tuple[str, list[subprocess.Popen[str]]]]:
    """A scheduler and workers with one thread each: the address, and the workers' processes."""
    pytest.importorskip("distributed")
    file = folder / "scheduler.json"
    dask = [sys.executable, "-W", "ignore", "-m"]
    with ExitStack() as stack:
        start = stack.enter_context
        options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file]
        scheduler = start(_started(*dask, "distributed.cli.dask_scheduler", *options, cwd=folder))
        (folder / "scheduler.pid").write_text(str(scheduler.pid))
        _wait_for(file)
        found = [
            start(_started(*dask, "distributed.cli.dask_worker", "--scheduler-file", file,
                           "--nthreads", "1", "--no-nanny", "--no-dashboard", "--name", number,
                           "--local-directory", folder / f"worker-{number}", cwd=folder))
            for number in range(workers)
        ]  # fmt: skip
        yield json.loads(file.read_text())["address"], found


@contextmanager
def _started(*argv: object, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    # nobody reads what they print: it must not fill a pipe
    words = ["sh", "-c", 'exec "$@" >>dask.log 2>&1', "sh", *argv]
    with background(*words, cwd=cwd) as process:
        yield process


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists() or not file.read_text().strip():
        assert time.monotonic() < deadline, "the scheduler does not start"
        time.sleep(0.05)
