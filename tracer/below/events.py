"""Guest ops and lower ops in one order: the events of a run, as NAME.lower holds them."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from tracer.below.clock import Moment
from tracer.below.op import LowerKind, LowerOp


@dataclass(frozen=True, slots=True)
class Sent:
    """A guest op was sent, ``time`` ns after the run began."""

    seq: int
    time: int


@dataclass(frozen=True, slots=True)
class Done:
    """A guest op was done, with an errno value (0 for success)."""

    seq: int
    time: int
    error: int


Event = Sent | Done | LowerOp


def joined(
    moments: Iterable[Moment], ops: Iterable[LowerOp], size: int | None = None
) -> Iterator[Event]:
    """Yield guest and lower ops in the order in which they happened, as ``Joiner``."""
    joiner = Joiner(size)
    yield from joiner.more(moments, ops)
    yield from joiner.rest()


class Joiner:
    """Puts guest and lower ops in the order in which they happened, as far as the log tells.

    A lower op that was not whole in the log at a moment comes after it. ``size`` is the image
    file's size at the start, in bytes, if the log has no truncations: where a moment finds it
    larger than writes have made it, or smaller, a TRUNCATE comes before all that followed the
    moment before.
    """

    def __init__(self, size: int | None = None) -> None:
        self._size = size
        self._number = 0
        self._waiting: deque[LowerOp] = deque()

    def more(self, moments: Iterable[Moment], ops: Iterable[LowerOp]) -> Iterator[Event]:
        """Yield further events, up to the last of the moments. ``ops`` has what the log held by
        then, or more."""
        self._waiting += ops
        for moment in moments:
            yield from self._before(moment)
            if moment.error is None:
                yield Sent(moment.seq, moment.time)
            else:
                yield Done(moment.seq, moment.time, moment.error)

    @property
    def waits_from(self) -> int | None:
        """Where the first lower op that was not yielded begins in the log; None: there is none."""
        return self._waiting[0].log_at if self._waiting else None

    def rest(self) -> Iterator[Event]:
        """Yield the lower ops after the last moment."""
        while self._waiting:
            yield self._numbered(self._waiting.popleft())

    def _before(self, moment: Moment) -> Iterator[LowerOp]:
        """Yield the lower ops that were in the log at a moment."""
        done = []
        while self._waiting and self._waiting[0].log_end <= moment.log:
            done.append(self._waiting.popleft())
        if self._size is not None:
            grown = (op.end for op in done if op.kind in (LowerKind.WRITE, LowerKind.ZERO))
            if moment.image != max(self._size, *grown, 0):
                yield self._numbered(LowerOp(0, LowerKind.TRUNCATE, 0, moment.image))
            self._size = moment.image
        for op in done:
            yield self._numbered(op)

    def _numbered(self, op: LowerOp) -> LowerOp:
        number, self._number = self._number, self._number + 1
        return op if op.number == number else replace(op, number=number)
