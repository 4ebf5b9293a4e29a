"""What a program prints, kept in bounded memory: how it begins and how it ends.

    with Output() as output:
        process = subprocess.Popen(argv, stdout=output.writer, stderr=output.writer)
        output.started()
        output.text()

A thread empties the pipe all the time, so that the program never waits for us, whatever we do and
whatever it left behind in the background.
"""

import os
import select
import threading

from tracer.closing import Closing

HEAD = 500
"""The bytes that are kept of the beginning: a few lines, with the first complaint among them."""

TAIL = 1500
"""The bytes that are kept of the end, where most programs say why they give up."""

PIECE = 1 << 16
"""Bytes in a read: what a pipe holds (pipe(7))."""

PATIENCE = 16
"""Reads in a row before others get a turn, should the program print faster than we read."""


class Output(Closing):
    """A pipe for a program's stdout and stderr, and what came through it."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        """``writer`` is the end for the program."""
        os.set_blocking(self._reader, False)
        self._over = os.eventfd(0, os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._head = b""
        self._tail = b""
        self._total = 0  # bytes
        self._thread = threading.Thread(target=self._follow, name="output", daemon=True)
        self._thread.start()

    def started(self) -> None:
        """Close our copy of the program's end."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def text(self) -> str:
        """Return what the program has printed so far. If that is long, only how it begins and how
        it ends, in whole lines where there are any."""
        with self._lock:
            self._take()
            head, tail, left_out = self._head, self._tail, self._total - HEAD - TAIL
        if left_out <= 0:  # then the two meet or overlap
            return (head + tail[len(head) + len(tail) - self._total :]).decode(errors="replace")
        head = head[: head.rfind(b"\n") + 1] or head + b"\n"
        tail = tail[tail.find(b"\n") + 1 :] or tail  # find gives -1 if there is no line end
        left_out = self._total - len(head) - len(tail)
        middle = f"... ({left_out:,} bytes left out)\n"
        return head.decode(errors="replace") + middle + tail.decode(errors="replace")

    def close(self) -> None:
        """Read what is left and close the pipe. A second call does nothing. ``text`` stays."""
        if self._thread.is_alive():
            os.eventfd_write(self._over, 1)
            self._thread.join()
        self.started()
        with self._lock:
            self._take()
            if self._reader >= 0:
                os.close(self._reader)
                os.close(self._over)
                self._reader = -1

    def _follow(self) -> None:
        """Read until the end of the pipe, or until ``close``."""
        waits = select.poll()
        waits.register(self._reader, select.POLLIN)
        waits.register(self._over, select.POLLIN)
        open_ = True
        while open_ and all(fd != self._over for fd, _ in waits.poll()):
            with self._lock:
                open_ = self._take()

    def _take(self) -> bool:
        """Read what is there. Return whether more may come."""
        for _ in range(PATIENCE if self._reader >= 0 else 0):
            try:
                piece = os.read(self._reader, PIECE)
            except BlockingIOError:
                return True
            if not piece:
                return False
            self._total += len(piece)
            if len(self._head) < HEAD:
                self._head += piece[: HEAD - len(self._head)]
            self._tail = (self._tail + piece[-TAIL:])[-TAIL:]
        return True
