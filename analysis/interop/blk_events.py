"""Turns events of Linux's block layer into requests, for the binary and text forms of blktrace.

A request begins when it is issued to the driver (D) and ends when the driver has completed it (C).
Devices without requests of their own (device mapper, MD, ...) have no D: their requests begin when
they are queued (Q). linux/include/uapi/linux/blktrace_api.h and blkparse(1) describe the events.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from analysis.interop.sink import Begun, Sink
from tracer.op import SECTOR, Flag, Kind, Op

LOST = 1 << 16
"""Requests that may begin while one is open. After that, its completion counts as lost: the kernel
drops events that blktrace does not fetch in time. Waiting longer would take memory, here and in a
replay."""

MAX_ERRNO = 4095
"""The highest errno value (linux/include/linux/err.h)."""


@dataclass(slots=True)
class Event:
    """An event in the life of a request."""

    time: int
    """ns."""
    action: str
    """Q, D, C, or R for requeued."""
    device: str
    sector: int
    bytes: int
    """The length of the request, or of its part that the event is about."""
    kind: Kind | None
    """None if a trace has no such op."""
    fua: bool = False
    preflush: bool = False
    """Whether the device must flush its cache first."""
    error: int = 0
    """The error as the kernel stores it, see ``errno_of``."""


def begins_with(events: Iterable[Event], device: str | None) -> str:
    """Return the action with which the requests of a device begin: D, or Q if it has no D.

    If ``device`` is None, the device of the first event counts.
    """
    for event in events:
        device = device or event.device
        if event.device == device and event.action == "D":
            return "D"
    return "Q"


def errno_of(error: int) -> int:
    """Return an errno value. The kernel stores its negative in 16 unsigned bits."""
    error &= 0xFFFF
    return min(error if error < 1 << 15 else (1 << 16) - error, MAX_ERRNO)


@dataclass(slots=True)
class _Open:
    """A request that has begun."""

    begun: Begun
    key: tuple[Kind, int]
    """Its kind, and the first sector that is not completed."""
    left: int
    """Bytes that are not completed."""
    requeued: bool = False
    """Whether the driver could not take it, so that it will be issued again."""
    done: bool = False


class Matcher:
    """Pairs the beginnings and ends of requests, and passes them to a sink."""

    def __init__(self, sink: Sink, begins: str) -> None:
        self._sink = sink
        self._begins = begins
        self._open: dict[tuple[Kind, int], list[_Open]] = {}
        self._by_age: deque[_Open] = deque()
        self._now = 0

    def see(self, event: Event) -> None:
        """Take the next event, in the order of time."""
        if not self._sink.wants(event.device):
            return
        self._now = event.time
        if event.kind is None:
            if event.action == self._begins:
                self._sink.skip("passthrough or zone request")
        elif event.action == self._begins:
            self._begin(event, event.kind)
        elif event.action == "C":
            # the kernel completes a request with a flush a second time, with no bytes left
            # (linux/block/blk-flush.c): by then another request may have begun there
            again = not event.bytes and event.kind != Kind.FLUSH and self._begins == "D"
            if not again:
                self._complete(event, event.kind)
        elif event.action == "R":
            self._requeue((event.kind, event.sector), False)

    def finish(self) -> None:
        """End the requests that never completed."""
        for request in self._by_age:
            self._give_up(request)

    def _begin(self, event: Event, kind: Kind) -> None:
        key = kind, event.sector
        if self._requeue(key, True):
            return
        if event.preflush:
            self._sink.do(Op(0, Kind.FLUSH, submitted=event.time))
        op = Op(
            0, kind, Flag.FUA if event.fua else 0, event.sector * SECTOR, event.bytes, event.time
        )
        if kind == Kind.FLUSH:
            op.offset = op.length = 0
        begun = self._sink.begin(op)
        if not begun:
            return
        request = _Open(begun, key, event.bytes)
        self._open.setdefault(key, []).append(request)
        self._by_age.append(request)
        while self._by_age[0].done or begun[0].seq - self._by_age[0].begun[0].seq > LOST:
            self._give_up(self._by_age.popleft())

    def _requeue(self, key: tuple[Kind, int], issued: bool) -> bool:
        """Note that a request is requeued, or ``issued`` again; return whether there was one."""
        for request in self._open.get(key, ()):
            if request.requeued == issued:
                request.requeued = not issued
                return True
        return False

    def _complete(self, event: Event, kind: Kind) -> None:
        """Complete a request, a part of one, or several that were merged."""
        left, status = event.bytes, errno_of(event.error)
        key = kind, event.sector
        if key not in self._open:
            self._sink.skip("completion of what did not begin here")
        while key in self._open:
            request = self._take(self._open[key][0])
            done = min(left, request.left)
            key = kind, key[1] + done // SECTOR
            left -= done
            request.left -= done
            if done and request.left and not status:
                request.key = key
                self._open.setdefault(key, []).append(request)
            else:
                request.done = True
                self._sink.end(request.begun, event.time, status)
            if not left:
                return

    def _take(self, request: _Open) -> _Open:
        """Remove a request from the open requests."""
        waiting = self._open[request.key]
        waiting.remove(request)
        if not waiting:
            del self._open[request.key]
        return request

    def _give_up(self, request: _Open) -> None:
        """End a request without its completion, unless it is done."""
        if not request.done:
            self._take(request).done = True
            self._sink.skip("completion that is missing")
            self._sink.end(request.begun, self._now)
