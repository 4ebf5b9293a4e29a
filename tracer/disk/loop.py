"""A small event loop over epoll: one thread that calls the handlers of ready file descriptors."""

import os
import select
import time
from collections.abc import Callable

from tracer.closing import Closing

SPIN = 100_000
"""How long to poll before sleeping, in ns. In a virtual machine, waking a halted CPU costs more
than all other work on a request, and a guest with one request in flight pays for it twice: at depth
1, polling raises throughput from 0.50 to 0.65 of blkverify's. The loop polls only while the mean
wait is shorter than this, so that a guest that computes keeps its CPU."""

LONG = 10 * SPIN
"""The most that a wait counts in the mean, in ns: twenty short waits outweigh a long wait."""

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
Handler = Callable[[int], None]
"""Called with the epoll events of a descriptor."""


class Loop(Closing):
    """File descriptors and their handlers."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._mean = LONG  # of the last waits, in ns

    def add(self, fd: int, handler: Handler, events: int = READ) -> None:
        """Call ``handler`` when ``fd`` has any of ``events`` or an error."""
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        """Replace the events to wait for on ``fd``."""
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Forget ``fd``. Call this before closing ``fd``."""
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def poll(self, timeout: float | None = None) -> bool:
        """Wait up to ``timeout`` seconds (None: forever), then call the handlers of what is ready.

        Returns whether any descriptor was ready.
        """
        ready = self._epoll.poll(0) or self._wait(timeout)
        for fd, events in ready:
            handler = self._handlers.get(fd)
            if handler is not None:  # None if an earlier handler of this round removed it
                handler(events)
        return bool(ready)

    def _wait(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait for events: poll for SPIN ns if the mean wait is short, then sleep."""
        poll, now = self._epoll.poll, time.monotonic_ns
        started = now()
        ready: list[tuple[int, int]] = []
        if self._mean < SPIN:
            until = started + SPIN
            while not ready and now() < until:
                os.sched_yield()  # let other threads use this CPU
                ready = poll(0)
        ready = ready or poll(timeout)
        self._mean += (min(now() - started, LONG) - self._mean) // 8  # over about the last 8 waits
        return ready

    def close(self) -> None:
        """Close the epoll descriptor."""
        self._epoll.close()
