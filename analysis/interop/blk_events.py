"""Events of Linux's block layer become requests: what blktrace's binary and text forms have in common.

A request begins when it is issued to the driver (D) and ends when the driver has completed it (C).
Devices without requests of their own (device mapper, MD, ...) have no D: there it begins when it is
queued (Q). Events are described in linux/include/uapi/linux/blktrace_api.h and blkparse(1).
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from analysis.interop.sink import Begun, Sink
from tracer.op import SECTOR, Flag, Kind, Op

LOST = 1 << 16
"""A request that is not completed while so many others begin has lost its completion: events are dropped
when blktrace does not fetch them in time. Waiting longer would take memory, here and in a replay."""

MAX_ERRNO = 4095
"""linux/include/linux/err.h"""


@dataclass(slots=True)
class Event:
    """Something that happened to a request. ``time`` is ns, ``bytes`` how much it is about; ``kind`` is
    None where no op of ours is like it; ``preflush``: the cache is to be flushed first."""

    time: int
    action: str
    device: str
    sector: int
    bytes: int
    kind: Kind | None
    fua: bool = False
    preflush: bool = False
    error: int = 0


def begins_with(events: Iterable[Event], device: str | None) -> str:
    """The action with which the requests of a device (the first one's, if None) begin: D, or Q if it has
    none."""
    for event in events:
        device = device or event.device
        if event.device == device and event.action == "D":
            return "D"
    return "Q"


def errno_of(error: int) -> int:
    """An errno value: the kernel stores its negative in 16 bits without a sign."""
    error &= 0xFFFF
    return min(error if error < 1 << 15 else (1 << 16) - error, MAX_ERRNO)


@dataclass(slots=True)
class _Open:
    """A request that has begun: ``left`` of its bytes are not completed. ``requeued``: the driver could
    not take it, and it will be issued again."""

    begun: Begun
    key: tuple[Kind, int]
    left: int
    requeued: bool = False
    done: bool = False


class Matcher:
    """Pairs the beginnings and ends of requests, and tells a sink."""

    def __init__(self, sink: Sink, begins: str) -> None:
        self._sink = sink
        self._begins = begins
        self._open: dict[tuple[Kind, int], list[_Open]] = {}
        self._by_age: deque[_Open] = deque()
        self._now = 0

    def see(self, event: Event) -> None:
        """Take an event in, in the order of time."""
        if not self._sink.wants(event.device):
            return
        self._now = event.time
        if event.kind is None:
            if event.action == self._begins:
                self._sink.skip("passthrough or zone request")
        elif event.action == self._begins:
            self._begin(event, event.kind)
        elif event.action == "C":
            # after what a flush belonged to, the kernel completes it again, with no bytes left
            # (linux/block/blk-flush.c): by then another may have begun there
            again = not event.bytes and event.kind != Kind.FLUSH and self._begins == "D"
            if not again:
                self._complete(event, event.kind)
        elif event.action == "R":
            self._requeue((event.kind, event.sector), False)

    def finish(self) -> None:
        """End what never was."""
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
        """A request is requeued, or ``issued`` after it was; tell whether there is such a one."""
        for request in self._open.get(key, ()):
            if request.requeued == issued:
                request.requeued = not issued
                return True
        return False

    def _complete(self, event: Event, kind: Kind) -> None:
        """Part of a request may be completed, or several that were merged."""
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
        """Take a request from those that are open."""
        waiting = self._open[request.key]
        waiting.remove(request)
        if not waiting:
            del self._open[request.key]
        return request

    def _give_up(self, request: _Open) -> None:
        """A request that is not done will never be."""
        if not request.done:
            self._take(request).done = True
            self._sink.skip("completion that is missing")
            self._sink.end(request.begun, self._now)
