"""Jobs on the workers of a Dask scheduler: the executor's interface, on an engine that exists.

A worker runs each job in a process beside it (blkbox/executors), so that a job that crashes or
takes too long does not take the worker with it. If a worker is lost, the scheduler begins its jobs
again elsewhere, and ``begun`` counts that. A job's process ends with its worker.
"""

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Generic, TypeVar, cast

from blkbox.executors.pool import Died, Processes
from tracer.closing import Closing
from tracer.errors import StorageError, UsageError

T = TypeVar("T")

AHEAD = 2
"""Jobs for each thread of the workers: one that runs and one that waits, so that none is idle while
a result is on its way."""

CONNECT = 20.0
"""Seconds in which the scheduler must answer."""

TICK = 1.0
"""Seconds between looks of a worker at its job."""

TOPIC = "blkbox-job"
"""The topic of the events by which workers say that a job begins."""


@dataclass(frozen=True, slots=True)
class _Died:
    """What a worker returns for a job whose process died."""

    how: str


@dataclass(frozen=True, slots=True)
class _Job(Generic[T]):
    died: Died[T]


class Cluster(Closing, Generic[T]):
    """Runs jobs on the workers of a scheduler. ``close`` drops those that have not begun.

    Raises UsageError if Dask is not installed or nobody answers at the address.
    """

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise UsageError("--dask needs Dask: install blkbox[cluster]") from error
        self._muted = _mute()
        self.address = address
        self.begun: Counter[str] = Counter()
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._running: dict[Any, _Job[T]] = {}  # Dask has no types
        try:
            self._client: Any = cast(Any, Client)(
                address, timeout=CONNECT, set_as_default=False, name="blkbox"
            )
        except (OSError, TimeoutError, ValueError, ImportError) as error:
            _unmute(self._muted)
            raise UsageError(f"--dask {address}: no scheduler answers there: {error}") from error
        self._topic = f"{TOPIC}-{self._client.id}"
        self._client.subscribe_topic(self._topic, self._note_begin)

    @property
    def has_room(self) -> bool:
        threads = sum(self._client.nthreads().values())
        return len(self._running) < max(AHEAD * int(threads), 1)

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
        future = self._client.submit(
            _on_worker, self._topic, name, version("blkbox"), seconds, function, arguments,
            pure=False,
        )  # fmt: skip
        self._running[future] = _Job(died)
        future.add_done_callback(self._done.put)

    def wait(self, seconds: float) -> list[T]:
        results = []
        patience = seconds
        while True:
            try:
                future = self._done.get(timeout=patience)
            except queue.Empty:
                break
            results.append(self._result(future, self._running.pop(future)))
            patience = 0.0
        if self._client.status not in ("running", "connecting"):
            raise StorageError(f"the scheduler at {self.address} is lost")
        return results

    def close(self) -> None:
        self._running = {}
        self._client.close(timeout=CONNECT)
        _unmute(self._muted)

    def _result(self, future: Any, job: _Job[T]) -> T:
        """Return what a job came to. Raises what it raised."""
        from distributed import KilledWorker
        from distributed.comm.core import CommClosedError

        try:
            found = future.result(timeout=CONNECT)
        except KilledWorker as error:
            return job.died(f"it was begun on several workers, and all were lost: {error}")
        except (CancelledError, CommClosedError) as error:
            raise StorageError(f"the scheduler at {self.address} is lost") from error
        return job.died(found.how) if isinstance(found, _Died) else cast(T, found)

    def _note_begin(self, event: tuple[float, Any]) -> None:
        self.begun[event[1]["name"]] += 1


def _mute() -> list[tuple[logging.Logger, int]]:
    """Let Dask's loggers say nothing: what is lost is told by us. Return them with their levels."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    muted = [(logging.getLogger(name), logging.getLogger(name).level) for name in names]
    for logger, _ in muted:
        logger.setLevel(logging.CRITICAL + 1)
    return muted


def _unmute(muted: list[tuple[logging.Logger, int]]) -> None:
    for logger, level in muted:
        logger.setLevel(level)


_ours = threading.local()
"""Each thread of a worker has an executor of its own, with one process."""


def _on_worker(
    topic: str, name: str, ours: str, seconds: float | None, function: Callable[..., Any],
    arguments: tuple[object, ...],
) -> Any:  # fmt: skip
    """Run a job on a worker, in a process of its own. Return its result, or how it died. Raises
    what it raised."""
    from distributed import get_worker

    worker = get_worker()
    if version("blkbox") != ours:
        raise UsageError(f"the worker {worker.address} has blkbox {version('blkbox')}, not {ours}")
    worker.log_event(topic, {"name": name, "worker": worker.address})
    if not hasattr(_ours, "pool"):
        _ours.pool = Processes[Any](1)
    pool: Processes[Any] = _ours.pool
    pool.submit(function, *arguments, died=_Died, seconds=seconds)
    while True:
        for result in pool.wait(TICK):
            return result
