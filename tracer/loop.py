"""A small event loop over epoll: one thread, file descriptors and what to call when they are ready."""

import select
from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
Handler = Callable[[int], None]
"""Called with the epoll events of its descriptor."""


class Loop:
    """File descriptors and their handlers."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}

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
        ready = self._epoll.poll(timeout)
        for fd, events in ready:
            handler = self._handlers.get(fd)
            if handler is not None:  # an earlier handler of this round may have removed it
                handler(events)
        return bool(ready)

    def close(self) -> None:
        """Give the epoll descriptor back."""
        self._epoll.close()

    def __enter__(self) -> "Loop":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
