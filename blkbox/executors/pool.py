"""Jobs in processes of their own: as many at a time as there is room for, results as they come."""

import signal
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Generic, TypeVar

from tracer.closing import Closing

T = TypeVar("T")

TASKS = 500
"""Jobs that a process does before another takes its place: what libraries leak stays small."""


class Executor(Closing, Generic[T]):
    """Runs functions of modules with arguments that can be pickled.

    ``close`` drops what has not begun, and ends the processes.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        # spawned: a process that is forked has our files and threads
        self._pool = ProcessPoolExecutor(
            jobs, get_context("spawn"), initializer=_start, max_tasks_per_child=TASKS
        )
        self._running: set[Future[T]] = set()

    @property
    def has_room(self) -> bool:
        """Whether a job that is submitted now begins at once."""
        return len(self._running) < self.jobs

    @property
    def idle(self) -> bool:
        """Whether no job runs."""
        return not self._running

    def submit(self, function: Callable[..., T], *arguments: object) -> None:
        """Start a job."""
        self._running.add(self._pool.submit(function, *arguments))

    def wait(self, seconds: float) -> list[T]:
        """Return the results of jobs that are done, after at most so many seconds. Raises what a
        job raised."""
        done, self._running = wait(self._running, seconds, FIRST_COMPLETED)
        return [future.result() for future in done]

    def close(self) -> None:
        """End all jobs. A second call does nothing."""
        if self.idle:  # nothing is cut short, so that the processes can end by themselves
            self._pool.shutdown()
            return
        processes = list((self._pool._processes or {}).values())  # it has no other way to end them
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _start() -> None:
    """A signal from the terminal is for the process that started us. SIGTERM ends us as an
    exception does, so that drivers and folders go."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(0)
