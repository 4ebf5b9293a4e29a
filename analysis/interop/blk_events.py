"""Turns events of Linux's block layer into requests, for the binary and text forms of blktrace.

A request begins when it is issued to the driver (D) and ends when the driver has completed it (C).
Devices without requests of their own (device mapper, MD, ...) have no D: their requests begin when
they are queued (Q). linux/include/uapi/linux/blktrace_api.h and blkparse(1) describe the events.

The kernel issues a request without the flush and the FUA it was queued with if the disk has no
volatile cache, and does them with flushes of their own if the disk cannot do them
(linux/block/blk-flush.c). Then only Q says what the guest asked for.
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

USED = "QDCR"
"""The actions that requests are made from. All others are left out."""

LEFT_OUT = "event inside the kernel's queue, or message"
NOT_ISSUED = "flush or FUA of a request that was not issued"
"""Reasons."""

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


@dataclass(slots=True)
class _Asked:
    """A request with a flush or FUA that is queued, but not issued."""

    fua: bool
    preflush: bool
    left: int
    """Bytes that are not issued."""
    flushes: int
    """How many flushes had been issued before."""


def _end(request: _Open) -> int:
    """Return the sector after the last one of a request."""
    return request.begun[-1].end // SECTOR


class Matcher:
    """Pairs the beginnings and ends of requests, and passes them to a sink."""

    def __init__(self, sink: Sink, begins: str) -> None:
        self._sink = sink
        self._begins = begins
        self._open: dict[tuple[Kind, int], list[_Open]] = {}
        self._by_age: deque[_Open] = deque()
        self._now = 0
        self._ends: dict[int, list[_Open]] = {}
        """The open trims, by the sector after their last one."""
        self._asked: dict[tuple[Kind, int], _Asked] = {}
        self._flushes = 0
        """How many flushes were issued."""
        self._waiting = 0
        """How many flushes are queued, but not issued."""

    def see(self, event: Event) -> None:
        """Take the next event, in the order of time."""
        if event.action not in USED:
            self._sink.leave_out(event.device, LEFT_OUT)
            return
        if not self._sink.wants(event.device):
            return
        self._now = event.time
        if event.kind is None:
            if event.action == self._begins:
                self._sink.skip("passthrough or zone request")
        elif event.action == self._begins:
            self._begin(event, event.kind)
        elif event.action == "Q":
            self._queue(event, event.kind)
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
        for _ in range(self._waiting):
            self._sink.skip("completion that is missing")
            self._sink.do(Op(0, Kind.FLUSH, submitted=self._now))
        for _ in self._asked:
            self._sink.skip(NOT_ISSUED)
        for request in self._by_age:
            self._give_up(request)

    def _queue(self, event: Event, kind: Kind) -> None:
        """Note what only this event may say of a request that will be issued."""
        if kind == Kind.FLUSH:
            self._waiting += 1
        elif event.fua or event.preflush:
            asked = _Asked(event.fua, event.preflush, event.bytes, self._flushes)
            before = self._asked.pop((kind, event.sector), None)
            if before is not None:
                asked.fua |= before.fua
                asked.preflush |= before.preflush
            self._asked[kind, event.sector] = asked
            if len(self._asked) > LOST:
                del self._asked[next(iter(self._asked))]
                self._sink.skip(NOT_ISSUED)

    def _issue(self, event: Event, kind: Kind) -> None:
        """Give a request that is issued the flags that it was queued with."""
        if kind == Kind.FLUSH:
            self._flushes += 1
            self._waiting = 0
        asked = self._asked.pop((kind, event.sector), None)
        if asked is None:
            return
        event.fua |= asked.fua
        event.preflush |= asked.preflush and asked.flushes == self._flushes
        if event.bytes < asked.left:  # the kernel has split it
            asked.left -= event.bytes
            asked.preflush = False
            self._asked[kind, event.sector + event.bytes // SECTOR] = asked

    def _begin(self, event: Event, kind: Kind) -> None:
        key = kind, event.sector
        if self._requeue(key, True):
            return
        self._issue(event, kind)
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
        self._put(request)
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
        if kind == Kind.FLUSH and key not in self._open and self._waiting:
            self._waiting -= 1
            self._sink.end(self._sink.begin(Op(0, kind, submitted=event.time)), event.time, status)
            return
        while key in self._open:
            request = self._take(self._open[key][0])
            done = min(left, request.left)
            key = kind, key[1] + done // SECTOR
            left -= done
            request.left -= done
            if done and request.left and not status:
                request.key = key
                self._put(request)
            else:
                request.done = True
                self._sink.end(request.begun, event.time, status)
            if not left:
                return
        # the kernel reports split trims with the first one's start, and with all bytes so far
        last = self._ends.get(event.sector + event.bytes // SECTOR)
        if kind == Kind.TRIM and last and last[0].begun[0].offset >= event.sector * SECTOR:
            request = self._take(last[0])
            request.done = True
            self._sink.end(request.begun, event.time, status)
        else:
            self._sink.skip("completion of what did not begin here")

    def _put(self, request: _Open) -> None:
        """Add a request to the open requests."""
        self._open.setdefault(request.key, []).append(request)
        if request.key[0] == Kind.TRIM:
            self._ends.setdefault(_end(request), []).append(request)

    def _take(self, request: _Open) -> _Open:
        """Remove a request from the open requests."""
        waiting = self._open[request.key]
        waiting.remove(request)
        if not waiting:
            del self._open[request.key]
        if request.key[0] == Kind.TRIM:
            self._ends[_end(request)].remove(request)
            if not self._ends[_end(request)]:
                del self._ends[_end(request)]
        return request

    def _give_up(self, request: _Open) -> None:
        """End a request without its completion, unless it is done."""
        if not request.done:
            self._take(request).done = True
            self._sink.skip("completion that is missing")
            self._sink.end(request.begun, self._now)
