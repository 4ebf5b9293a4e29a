"""Jobs in processes of their own: as many at a time as there is room for, results as they come.

A process that dies under its job (SIGKILL, a segfault, no memory) is a result of that job, and so
is a job that takes too long. The others go on.

    with Processes[int](2) as executor:
        executor.submit(len, "job", died=lambda how: -1)
        executor.wait(1.0)
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, Generic, Protocol, TypeVar

from tracer.closing import Closing
from tracer.driver.command import exit_text
from tracer.interrupts import held

T = TypeVar("T")

TASKS = 500
"""Jobs that a process does before another takes its place: what libraries leak stays small."""

GRACE = 10.0
"""Seconds in which a job that must end may stop its driver and remove its folder."""

Died = Callable[[str], T]
"""Makes a job's result if the job cannot: it gets how the process ended, in words."""


class Executor(Protocol[T]):
    """Where jobs run. A job is a function of a module, with arguments that can be pickled."""

    @property
    def has_room(self) -> bool:
        """Whether a job that is submitted now begins soon."""

    @property
    def idle(self) -> bool:
        """Whether no job runs."""

    @property
    def begun(self) -> Mapping[str, int]:
        """By the name of a job, how often it was begun: a cluster begins a job again if the worker
        that ran it is lost."""

    def submit(
        self,
        function: Callable[..., T],
        *arguments: object,
        died: Died[T],
        seconds: float | None = None,
        name: str = "",
    ) -> None:
        """Start a job. ``seconds``: the most that it may take."""

    def wait(self, seconds: float) -> list[T]:
        """Return the results of jobs that are done, after at most so many seconds. Raises what a
        job raised."""

    def close(self) -> None:
        """End all jobs. A second call does nothing."""


Job = tuple[Callable[..., T], tuple[object, ...], Died[T]]
"""A job: its function, the arguments, and what makes its result if it cannot."""

TICK = 0.25
"""Seconds between looks at the jobs: what a screen shows is no older."""


def run_all(executor: Executor[T], jobs: Iterable[Job[T]]) -> Iterator[T]:
    """Run jobs, as many at a time as there is room for. Yield their results as they come. Raises
    what a job raised."""
    waiting = deque(jobs)
    while waiting or not executor.idle:
        while waiting and executor.has_room:
            function, arguments, died = waiting.popleft()
            executor.submit(function, *arguments, died=died)
        yield from executor.wait(TICK)


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    tasks: int = 0


@dataclass(slots=True)
class _Job(Generic[T]):
    worker: _Worker
    died: Died[T]
    seconds: float | None
    deadline: float
    """When it is ended, by the monotonic clock."""
    ending: bool = False
    """Whether it was asked to end."""


class Processes(Closing, Generic[T]):
    """Runs jobs in processes on this machine. ``close`` ends those that run."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.begun: Counter[str] = Counter()
        self._spare: list[_Worker] = []
        self._running: dict[Connection, _Job[T]] = {}

    @property
    def has_room(self) -> bool:
        return len(self._running) < self.jobs

    @property
    def idle(self) -> bool:
        return not self._running

    def submit(
        self,
        function: Callable[..., T],
        *arguments: object,
        died: Died[T],
        seconds: float | None = None,
        name: str = "",
    ) -> None:
        self.begun[name] += 1
        with held():
            worker = self._spare.pop() if self._spare else _start()
            limit = float("inf") if seconds is None else time.monotonic() + seconds
            self._running[worker.connection] = _Job(worker, died, seconds, limit)
        worker.tasks += 1
        with suppress(OSError):  # it died while it was spare: its end is seen in ``wait``
            worker.connection.send((function, arguments))

    def wait(self, seconds: float) -> list[T]:
        nearest = min((job.deadline for job in self._running.values()), default=float("inf"))
        patience = max(min(seconds, nearest - time.monotonic()), 0.0)
        results: list[T] = []
        ready = wait(list(self._running), patience) if self._running else []
        if not self._running:
            time.sleep(patience)
        for connection in ready:
            assert isinstance(connection, Connection)
            results.append(self._result(self._running.pop(connection)))
        for job in self._running.values():
            if time.monotonic() >= job.deadline:
                _end(job)
        return results

    def close(self) -> None:
        workers = [*self._spare, *(job.worker for job in self._running.values())]
        self._spare, self._running = [], {}
        for worker in workers:
            worker.connection.close()
            worker.process.terminate()
        for worker in workers:
            try:
                worker.process.wait(GRACE)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()

    def _result(self, job: _Job[T]) -> T:
        """Return what a job came to. Raises what it raised."""
        worker = job.worker
        try:
            well, value = worker.connection.recv()
        except (EOFError, OSError):
            worker.connection.close()
            how = exit_text(worker.process.wait())
            return job.died(f"it took more than {job.seconds:g} s" if job.ending else how)
        if job.ending or worker.tasks >= TASKS:
            worker.connection.close()
            worker.process.wait()
        else:
            self._spare.append(worker)
        if not well:
            raise value
        result: T = value
        return result


def _end(job: _Job[Any]) -> None:
    """Ask a job to end; the second time, kill it. What it held goes with the next sweep."""
    if job.ending:
        job.worker.process.kill()
    else:
        job.worker.process.terminate()
    job.ending, job.deadline = True, time.monotonic() + GRACE


BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from blkbox.executors.pool import work; work(int(sys.argv[1]))"
)
"""What a process runs: it finds modules where we find them."""


def _start() -> _Worker:
    """Start a process. Not forked: it would have our files and threads. Not by multiprocessing,
    which lets no process of a Dask worker have children."""
    ours, its = Pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", BOOT, str(its.fileno()), json.dumps(sys.path)],
            stdin=subprocess.DEVNULL, pass_fds=[its.fileno()],
        )  # fmt: skip
    except BaseException:
        ours.close()
        raise
    finally:
        its.close()
    return _Worker(process, ours)


def work(fd: int) -> None:
    """Do jobs until whoever sends them is gone.

    A signal from the terminal is for the process that started us. SIGTERM ends us as an exception
    does, so that drivers and folders go.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    os.set_inheritable(fd, False)
    connection = Connection(fd)
    threading.Thread(target=_watch, args=(fd,), daemon=True).start()
    with suppress(EOFError, BrokenPipeError):
        while True:
            try:
                function, arguments = connection.recv()
                answer = True, function(*arguments)
            except EOFError:
                raise
            except Exception as error:  # noqa: BLE001  it is raised where the job was submitted
                answer = False, error
            _send(connection, answer)


def _send(connection: Connection, answer: tuple[bool, object]) -> None:
    """Send what came of a job, or if that cannot be pickled, say so."""
    try:
        connection.send(answer)
    except OSError:
        raise
    except Exception:  # noqa: BLE001  pickling raises what it likes
        what = answer[1]
        lines = traceback.format_exception(what) if isinstance(what, Exception) else [repr(what)]
        connection.send((False, RuntimeError("".join(lines))))


def _watch(fd: int) -> None:
    """End this process once the other end of its connection is closed: SIGKILL has ended whoever
    wants the result."""
    poll = select.poll()
    poll.register(fd, select.POLLRDHUP)
    poll.poll()
    os.kill(os.getpid(), signal.SIGTERM)


def _leave(_number: int, _frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not stop the tidying up
    raise SystemExit(0)
