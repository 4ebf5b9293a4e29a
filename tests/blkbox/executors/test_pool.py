"""The executor: results, and what becomes of a job whose process dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blkbox.executors import pool as executor
from blkbox.executors.pool import Processes
from tests.kit.system import PATIENCE
from tracer.errors import StorageError


def double(number: int) -> str:
    return str(2 * number)


def end_by(number: int) -> str:
    os.kill(os.getpid(), number)
    return "alive"


def fail() -> str:
    raise StorageError("full")


class Odd(Exception):
    """An exception that cannot be pickled."""

    def __init__(self, file: object) -> None:
        super().__init__("odd")
        self.file = file


def fail_oddly() -> str:
    with open(os.devnull) as file:
        raise Odd(file)


def linger(folder: str) -> str:
    (Path(folder) / "begun").touch()
    try:
        time.sleep(PATIENCE)
    finally:
        (Path(folder) / "tidied").touch()
    return "slept"


def deaf() -> str:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(PATIENCE)
    return "slept"


def own_process() -> str:
    return str(os.getpid())


def results(pool: Processes[str]) -> list[str]:
    """All results, until no job runs."""
    found: list[str] = []
    while not pool.idle:
        found += pool.wait(1.0)
    return found


def test_jobs_run_and_their_results_come() -> None:
    with Processes[str](2) as pool:
        pool.submit(double, 1, died=str)
        assert pool.has_room
        pool.submit(double, 2, died=str)
        assert not pool.has_room
        assert sorted(results(pool)) == ["2", "4"]
        assert pool.idle


def test_a_process_does_many_jobs_and_then_another_takes_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(executor, "TASKS", 2)
    seen = []
    with Processes[str](1) as pool:
        for _ in range(4):
            pool.submit(own_process, died=str)
            seen += results(pool)
    assert seen[0] == seen[1] != seen[2] == seen[3]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_process_that_dies_is_a_result_of_its_job_alone(number: signal.Signals) -> None:
    with Processes[str](2) as pool:
        pool.submit(end_by, number, died=lambda how: f"died: {how}")
        pool.submit(double, 4, died=str)
        assert sorted(results(pool)) == ["8", f"died: killed by {number.name}"]
        pool.submit(double, 5, died=str)
        assert results(pool) == ["10"]


def test_a_spare_process_that_was_killed_is_seen_when_it_gets_a_job() -> None:
    with Processes[str](1) as pool:
        pool.submit(own_process, died=str)
        os.kill(int(results(pool)[0]), signal.SIGKILL)
        pool.submit(double, 1, died=lambda how: how)
        assert results(pool) == ["killed by SIGKILL"]
        pool.submit(double, 1, died=str)
        assert results(pool) == ["2"]


def test_what_a_job_raises_is_raised_and_the_pool_goes_on() -> None:
    with Processes[str](1) as pool:
        pool.submit(fail, died=str)
        with pytest.raises(StorageError, match="full"):
            results(pool)
        pool.submit(fail_oddly, died=str)
        with pytest.raises(RuntimeError, match="Odd: odd"):
            results(pool)
        pool.submit(double, 3, died=str)
        assert results(pool) == ["6"]


def test_a_job_that_takes_too_long_is_ended_and_tidies_up(tmp_path: Path) -> None:
    with Processes[str](1) as pool:
        pool.submit(linger, str(tmp_path), died=lambda how: how, seconds=2.0)
        assert results(pool) == ["it took more than 2 s"]
    assert (tmp_path / "tidied").exists()


def test_a_job_that_does_not_end_when_asked_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "GRACE", 0.2)
    with Processes[str](1) as pool:
        pool.submit(deaf, died=lambda how: how, seconds=1.0)
        assert results(pool) == ["it took more than 1 s"]


def test_closing_ends_what_runs(tmp_path: Path) -> None:
    with Processes[str](1) as pool:
        pool.submit(linger, str(tmp_path), died=str)
        while not (tmp_path / "begun").exists():
            pool.wait(0.01)
        pool.close()
    assert (tmp_path / "tidied").exists()


OWNER = """
import sys
from blkbox.executors.pool import Processes
from tests.blkbox.executors.test_pool import linger

with Processes(1) as pool:
    pool.submit(linger, sys.argv[1], died=str)
    while True:
        pool.wait(1.0)
"""


def test_jobs_end_with_whoever_wants_them(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)])
    while not (tmp_path / "begun").exists():
        assert owner.poll() is None
        time.sleep(0.01)
    owner.kill()
    owner.wait()
    deadline = time.monotonic() + PATIENCE
    while not (tmp_path / "tidied").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
