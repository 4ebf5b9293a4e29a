"""Requests of which a source has both times in one line, and the numbers in such lines."""

import heapq
from collections.abc import Iterable

from analysis.interop.blk_events import LOST
from analysis.interop.order import nearly_sorted
from analysis.interop.sink import Begun, Sink
from tracer.op import Op

WINDOW = 1 << 12
"""Places that a request may be too late: no format promises the order in which requests began."""

TOO_LATE = "completion after too many others began"
"""A reason. Such a request completes when the next one begins."""

SECOND = 10**9
"""Nanoseconds."""


def do(requests: Iterable[tuple[Op, int]], sink: Sink) -> None:
    """Pass requests to a sink, each with the time of its completion in ns.

    Memory: LOST requests. If more are in flight, the one that ends first ends now, and is counted.
    """
    in_flight: list[tuple[int, int, Begun]] = []
    in_order = nearly_sorted(requests, WINDOW, lambda request: request[0].submitted)
    for number, (op, completed) in enumerate(in_order):
        while in_flight and in_flight[0][0] < op.submitted:
            at, _, begun = heapq.heappop(in_flight)
            sink.end(begun, at)
        if len(in_flight) == LOST:
            sink.skip(TOO_LATE)
            sink.end(heapq.heappop(in_flight)[2], op.submitted)
        heapq.heappush(in_flight, (completed, number, sink.begin(op)))
    while in_flight:
        at, _, begun = heapq.heappop(in_flight)
        sink.end(begun, at)


def nanoseconds(seconds: str) -> int:
    """Return a decimal number of seconds (``12``, ``12.5``) in ns, rounded down."""
    whole, _, fraction = seconds.partition(".")
    return int(whole) * SECOND + int(fraction[:9].ljust(9, "0"))
