"""A small event loop over epoll: one thread, file descriptors and what to call when they are ready."""

import os
import select
import time
from collections.abc import Callable

SPIN = 100_000
"""ns to look again before going to sleep. Waking a halted CPU of a virtual machine costs more than all
that we do for a request, and a guest that keeps one request in flight pays for it twice: at depth 1
this makes 0.50 of blkverify's throughput 0.65. Done only while waits are shorter than this on
average: a guest that is busy computing keeps its CPU."""

LONG = 10 * SPIN
"""ns that a long wait counts for: so little that twenty short ones outweigh it."""

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
Handler = Callable[[int], None]
"""Called with the epoll events of its descriptor."""


class Loop:
    """File descriptors and their handlers."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._mean = LONG  # ns that a wait takes, on average

    def add(self, fd: int, handler: Handler, events: int = READ) -> None:
        """Call ``handler`` whenever ``fd`` has any of ``events`` (or an error)."""
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        """Wait for other events on ``fd``."""
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Forget ``fd``; call it before closing."""
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def poll(self, timeout: float | None = None) -> bool:
        """Wait up to ``timeout`` seconds (None: for ever) and run the handlers of what is ready.
        Returns whether anything was."""
        ready = self._epoll.poll(0) or self._wait(timeout)
        for fd, events in ready:
            handler = self._handlers.get(fd)
            if handler is not None:  # an earlier handler of this round may have removed it
                handler(events)
        return bool(ready)

    def _wait(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait for events: awake at first, if waits are short on average, then asleep."""
        poll, now = self._epoll.poll, time.monotonic_ns
        started = now()
        ready: list[tuple[int, int]] = []
        if self._mean < SPIN:
            until = started + SPIN
            while not ready and now() < until:
                os.sched_yield()  # whoever wants this CPU gets it
                ready = poll(0)
        ready = ready or poll(timeout)
        self._mean += (min(now() - started, LONG) - self._mean) // 8  # of about the last 8 waits
        return ready

    def close(self) -> None:
        """Give the epoll descriptor back."""
        self._epoll.close()

    def __enter__(self) -> "Loop":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
